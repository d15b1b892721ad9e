"""The pages as a person opens them: from a file, in a browser, on a phone, in the dark, on paper, without a fault that
axe or html-validate finds; and the threshold, which gives the numbers that Python computes from the same scores."""

import json
import re
import shutil
import subprocess
import tarfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from chromium import open_tab

from listenwell.evaluate.methods import versions
from listenwell.evaluate.metrics import decide, recall, specificity
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.report.blocks import Paragraph, make_page
from listenwell.report.score_tables import comparison_page
from listenwell.report.write import PAGE, write_page
from listenwell.tasks.compare import Reading, compare_sources
from listenwell.tasks.preview import preview

pytestmark = pytest.mark.slow

AXE, VALIDATOR = "axe-core@4.10.3", "html-validate@9.7.1"
PAGES = ("report", "comparison", "augmentation")
MOST_PRINTED = 12


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_tab(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def report(finished_study) -> Path:
    return finished_study[0].output / PAGE


@pytest.fixture(scope="module")
def comparison(finished_study, tmp_path_factory) -> Path:
    """The page of a run and its copy."""
    folder = tmp_path_factory.mktemp("comparison")
    run = finished_study[0].output
    copied = shutil.copytree(run, folder / "copied")
    compared, warnings = compare_sources([str(run), str(copied)], Reading({}), seed=0)
    write_page(folder / "comparison.html", comparison_page(compared, ["train.batch: 4 and 8"], warnings))
    return folder / "comparison.html"


@pytest.fixture(scope="module")
def augmentation(finished_study, tmp_path_factory) -> Path:
    """The preview of clips that are drawn."""
    path = tmp_path_factory.mktemp("augmentation") / "preview.html"
    preview(finished_study[0], [], [1], path)
    return path


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_complains_of_nothing_and_fits_a_phone(tab, name, request):
    page = request.getfixturevalue(name)
    for scheme in ("light", "dark"):
        tab.requests.clear()
        tab.complaints.clear()
        tab.open(page, width=360, height=740, scheme=scheme)
        outside = [url for url in tab.requests if not url.startswith(("data:", page.resolve().as_uri()))]
        assert (outside, tab.complaints) == ([], [])
        assert tab.run("document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
@pytest.mark.parametrize("name", ["report", "augmentation"])
def test_every_sound_plays(tab, name, request):
    tab.open(request.getfixturevalue(name))
    played = tab.run("""(async () => {
        const sounds = [...document.querySelectorAll("audio")];
        for (const sound of sounds) { sound.muted = true; await sound.play(); sound.pause(); }
        return sounds.map(sound => sound.duration);
    })()""")
    assert len(played) > 0
    assert min(played) > 0


@pytest.mark.browser
def test_a_table_sorts_by_a_click_on_its_head_and_by_key(tab, report):
    tab.open(report)
    column = """[...document.querySelector("[aria-labelledby=results] table").querySelectorAll("tbody tr")].map(
        row => parseFloat(row.cells[1].textContent.replace("\\u2212", "-")))"""
    head = """document.querySelector("[aria-labelledby=results] table th:nth-child(2) button")"""
    before = tab.run(column)
    tab.run(f"{head}.click()")
    first = tab.run(column)
    assert sorted(first) == sorted(before)
    assert first in (sorted(before), sorted(before, reverse=True))
    tab.run(f"{head}.focus()")
    tab.press("Enter", 13)
    assert tab.run(column) == first[::-1] or len(set(first)) < len(first)


def read_explorer(tab) -> dict[str, Any]:
    """What the page shows at the threshold of the slider."""
    return json.loads(
        tab.run("""JSON.stringify({
        reading: document.querySelector(".reading").textContent,
        counts: [...document.querySelectorAll(".counts td")].map(cell => parseInt(cell.textContent)),
        caption: document.querySelector(".wrong caption").textContent,
        errors: [...document.querySelectorAll(".wrong tbody tr")].map(row => row.cells[0].textContent),
        bars: [...document.querySelectorAll(".plots .bar")].map(bar => parseFloat(bar.dataset.tip)),
        points: [...document.querySelectorAll(".plots circle.now")].map(
            dot => [dot.cx, dot.cy].map(each => each.baseVal.value)),
        range: ["min", "max"].map(name => Number(document.querySelector("[name=threshold]")[name])),
    })""")
    )


def move(tab, name: str, value: object) -> None:
    tab.run(f"""{{ const field = document.querySelector(".explorer [name={name}]");
        field.value = {json.dumps(value)};
        for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {{ bubbles: true }})); }}""")


def assert_shows(shown: dict[str, Any], table: ScoreTable, threshold: float) -> None:
    """The page shows what Python computes from the scores of a condition."""
    says, is_speech = decide(table.score, threshold), table.is_speech
    tpr, tnr = recall(says, is_speech), specificity(says, is_speech)
    found = re.findall(r"[+-]?\d+\.\d+", shown["reading"].replace("\N{MINUS SIGN}", "-"))
    balanced, at, _, _, found_speech, rejected = map(float, found)
    assert (balanced, found_speech, rejected) == pytest.approx(((tpr + tnr) / 2, tpr, tnr), abs=0.0005001)
    assert at == pytest.approx(threshold, abs=0.005001)
    expected = [
        (says & is_speech).sum(),
        (~says & is_speech).sum(),
        (says & ~is_speech).sum(),
        (~says & ~is_speech).sum(),
    ]
    assert shown["counts"] == expected
    wrong = np.flatnonzero(says != is_speech)
    order = wrong[np.argsort(-np.abs(table.score[wrong] - threshold), kind="stable")]
    assert shown["errors"] == table.clip_id[order][:15].tolist()
    assert shown["caption"].startswith(f"{wrong.size} errors of {len(table)}")
    assert shown["points"][0] == pytest.approx([44 + 248 * (1 - tnr), 258 - 240 * tpr], abs=0.01)  # ROC
    low, high = shown["range"]
    for is_class, bars in ((is_speech, shown["bars"][:40]), (~is_speech, shown["bars"][40:])):
        counts, _ = np.histogram(table.score[is_class], 40, (low, high))
        assert bars == pytest.approx(100 * counts / is_class.sum(), abs=0.051)


@pytest.mark.browser
def test_the_slider_moves_every_number_to_what_python_computes(tab, report, finished_study):
    table = read_scores(finished_study[0].output / "scores" / "fine-tuned-test.csv")
    delivered = finished_study[1]["thresholds"]["fine-tuned"]["value"]
    tab.open(report)
    assert f"at the delivered threshold {delivered:+.2f}" in read_explorer(tab)["reading"].replace(
        "\N{MINUS SIGN}", "-"
    )
    for condition, part in versions(table).items():
        move(tab, "condition", condition)
        tab.run("document.querySelector('[name=delivered]').click()")
        assert_shows(read_explorer(tab), part, delivered)
        for threshold in (*np.quantile(part.score, [0.2, 0.5]).tolist(), float(part.score.max())):
            move(tab, "threshold", threshold)
            assert_shows(read_explorer(tab), part, float(tab.run("document.querySelector('[name=threshold]').value")))
    move(tab, "value", "0.25")
    assert "at +0.25, " in read_explorer(tab)["reading"]


@pytest.mark.browser
def test_an_error_plays_from_the_list(tab, report):
    tab.open(report)
    playing = tab.run("""(async () => {
        const conditions = [...document.querySelectorAll("[name=condition] option")].map(option => option.value);
        for (const condition of conditions) {
            const field = document.querySelector("[name=condition]");
            field.value = condition;
            field.dispatchEvent(new Event("change"));
            const button = document.querySelector(".wrong button");
            if (button === null) continue;
            const started = new Promise(done => document.addEventListener("play", e => done(e.target), true));
            button.click();
            const player = await started;
            player.pause();
            return [button.getAttribute("aria-label").replace("Play ", ""), player.dataset.key];
        }
        return null;
    })()""")
    clip, key = playing
    assert key.endswith(f"/{clip}")


@pytest.mark.browser
def test_a_term_says_what_it_means_to_the_keyboard(tab, report):
    tab.open(report)
    meanings = set(yaml.safe_load(files("listenwell.report").joinpath("glossary.yaml").read_text("utf-8")).values())
    tab.run("document.querySelector('#answer ~ * a.term').focus()")
    said = "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    assert tab.run(said) in meanings
    tab.press("Escape", 27)
    assert tab.run(said) is None


@pytest.mark.browser
def test_a_point_of_a_curve_says_its_value_to_the_pointer(tab, report):
    tab.open(report, width=1280)
    points = json.loads(
        tab.run("""JSON.stringify([...document.querySelectorAll("[aria-labelledby=answer] g.tip")].map(
        (point) => {
            point.scrollIntoView({ block: "center" });
            const box = point.getBoundingClientRect();
            const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            hit.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
            return [point.dataset.tip, document.getElementById("tip").textContent];
        }))""")
    )
    assert len(points) > 6
    assert all(said == named for named, said in points)
    assert all(re.search(r": \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]$", said) for _, said in points)


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_term_is_linked_once_a_section_to_where_the_glossary_shows_it(tab, name, request):
    tab.open(request.getfixturevalue(name))
    linked = json.loads(
        tab.run("""JSON.stringify([...document.querySelectorAll("main section")].map(section =>
        [...section.querySelectorAll("a.term")].map(link => [link.getAttribute("href"), link.textContent,
            document.querySelector(link.getAttribute("href")).offsetHeight > 0])))""")
    )
    for section in linked:
        targets = [target for target, _, _ in section]
        assert len(targets) == len(set(targets))
        assert all(is_shown for _, _, is_shown in section)
    assert sum(map(len, linked)) > 0


@pytest.mark.browser
def test_a_page_without_terms_has_no_glossary(tab, tmp_path):
    section = ("One", "one", [Paragraph("Nothing here is in need of a meaning.")])
    write_page(tmp_path / "page.html", make_page("", "Plain", [], [section]))
    tab.open(tmp_path / "page.html")
    assert tab.run("document.getElementById('glossary').offsetHeight") == 0
    assert tab.run("document.querySelector('nav ul').innerText.trim()") == "One"


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_drawing_has_a_name_and_no_tip_of_the_browser_s_own(tab, name, request):
    tab.open(request.getfixturevalue(name))
    drawings = "[...document.querySelectorAll('svg')]"
    assert tab.run(f"{drawings}.every(each => each.getAttribute('aria-label').length > 2)") is True
    assert tab.run("document.querySelectorAll('svg title').length") == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["report", "augmentation"])
def test_the_labels_of_an_axis_stand_apart_on_one_line_each(tab, name, width, request):
    tab.open(request.getfixturevalue(name), width=width)
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    boxes = json.loads(
        tab.run("""JSON.stringify([...document.querySelectorAll(".picture ol")].map(axis =>
        [...axis.children].map(label => { const box = label.getBoundingClientRect();
            return [box.left, box.right, box.top, box.bottom]; })))""")
    )
    assert boxes
    for axis in boxes:
        for i, (left, right, top, bottom) in enumerate(axis):
            assert bottom - top < 14
            assert 0 <= left < right <= width
            for other_left, other_right, other_top, other_bottom in axis[:i]:
                assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


@pytest.mark.browser
def test_the_contents_stand_open_beside_the_text_and_folded_on_a_phone(tab, report):
    is_open = "document.querySelector('nav details').open"
    tab.open(report, width=1280)
    assert tab.run(is_open) is True
    beside = tab.run("document.querySelector('nav').getBoundingClientRect().right")
    assert beside < tab.run("document.querySelector('main').getBoundingClientRect().left")
    tab.open(report, width=400)
    assert tab.run(is_open) is False


@pytest.mark.browser
def test_the_first_screen_holds_the_answers_and_the_curves(tab, report):
    tab.open(report, width=1280, height=900)
    for what in (".card", ".curves svg"):
        assert tab.run(f"document.querySelector('{what}').getBoundingClientRect().bottom") < 900


@pytest.mark.browser
def test_it_prints_on_few_pages_with_its_details_closed(tab, report):
    tab.open(report)
    assert tab.n_printed_pages() <= MOST_PRINTED
    assert tab.run("document.querySelectorAll('main details[open]').length") == 0


@pytest.mark.browser
def test_it_is_dark_where_the_reader_wants_it_dark(tab, report):
    colours = []
    for scheme in ("light", "dark"):
        tab.open(report, scheme=scheme)
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(int(value) for value in colour[4:-1].split(",")) for colour in colours)
    assert dark < 200 < 600 < light


@pytest.mark.browser
@pytest.mark.network
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_fault_of_accessibility(tab, name, scheme, axe, request):
    tab.open(request.getfixturevalue(name), scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    tab.run(f"{axe.read_text(encoding='utf-8')}; 0")
    faults = tab.run("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
                     "v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')))")  # fmt: skip
    assert faults == []


@pytest.mark.network
@pytest.mark.parametrize("name", PAGES)
def test_the_html_is_valid(name, validator, request, tmp_path):
    page = request.getfixturevalue(name).read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(re.sub(r'src="data:[^"]+"', 'src="data:,"', page), encoding="utf-8")
    (tmp_path / ".htmlvalidate.json").write_text('{"root": true, "extends": ["html-validate:standard"]}')
    command = ["node", validator, "--formatter", "text", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture(scope="module")
def validator(tmp_path_factory) -> Path:
    """html-validate as npm serves it; no script of a package runs while it is installed."""
    folder = tmp_path_factory.mktemp("validator")
    command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    subprocess.run([*command, VALIDATOR], check=True, timeout=300, capture_output=True)
    return folder / "node_modules" / "html-validate" / "bin" / "html-validate.mjs"


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> Path:
    """axe-core as npm serves it; nothing of the package is run but the one script, in the page."""
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, timeout=120, capture_output=True)
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        (folder / "axe.min.js").write_bytes(script.read())
    return folder / "axe.min.js"
