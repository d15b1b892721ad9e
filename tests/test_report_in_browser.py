"""The pages as a person opens them: from a file, in a browser, on a phone, in the dark, on paper, without a fault.

html-validate's rules: the content model, ARIA, references between elements, landmarks, what browsers repair in silence.
"""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from chromium import open_tab

from listenwell.data.manifest import read_manifest
from listenwell.report.comparison import comparison_page
from listenwell.report.write import PAGE, render_page
from listenwell.tasks.compare import Reading, compare_runs
from listenwell.tasks.preview import preview

AXE, VALIDATOR = "axe-core@4.10.3", "html-validate@9.7.1"
RULES = {
    "root": True,
    "extends": [f"html-validate:{each}" for each in ("recommended", "document", "a11y", "standard")],
    "rules": {"long-title": "off"},  # advice for search engines; a title here holds a user's name
}


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
    compared = compare_runs([str(run), str(copied)], Reading({}), seed=0)
    (folder / "comparison.html").write_text(render_page(comparison_page(compared)), encoding="utf-8")
    return folder / "comparison.html"


@pytest.mark.browser
@pytest.mark.parametrize("name", ["report", "comparison"])
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
def test_every_sound_plays(tab, report):
    tab.open(report)
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
    column = """[...document.querySelector("table").querySelectorAll("tbody tr")].map(
        row => parseFloat(row.cells[1].textContent.replace("\\u2212", "-")))"""
    head = """document.querySelector("table").querySelectorAll("thead th")[1].querySelector("button")"""
    before = tab.run(column)
    tab.run(f"{head}.click()")
    first = tab.run(column)
    assert sorted(first) == sorted(before)
    assert first in (sorted(before), sorted(before, reverse=True))
    tab.run(f"{head}.focus()")
    tab.press("Enter", 13)
    assert tab.run(column) == first[::-1] or len(set(first)) < len(first)


@pytest.mark.browser
def test_it_is_dark_where_the_reader_wants_it_dark(tab, report):
    colours = []
    for scheme in ("light", "dark"):
        tab.open(report, scheme=scheme)
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(int(value) for value in colour[4:-1].split(",")) for colour in colours)
    assert dark < 200 < 600 < light


@pytest.mark.browser
def test_it_prints(tab, report):
    tab.open(report)
    paper = tab.paper()
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") + paper.count(b"/Type/Page") > 1


@pytest.mark.browser
@pytest.mark.network
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_of_accessibility(tab, report, scheme, axe):
    tab.open(report, scheme=scheme)
    tab.run(f"{axe.read_text(encoding='utf-8')}; 0")
    faults = tab.run("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
                     "v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')))")  # fmt: skip
    assert faults == []


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


@pytest.fixture(scope="module")
def validator(tmp_path_factory) -> Path:
    """html-validate as npm serves it, without the install scripts of any package."""
    if shutil.which("npm") is None:
        pytest.skip("no npm; install Node.js 18 or later")
    folder = tmp_path_factory.mktemp("html-validate")
    install = ["npm", "install", "--silent", "--ignore-scripts", "--no-fund", "--no-audit", VALIDATOR]
    subprocess.run(install, cwd=folder, check=True, timeout=300, capture_output=True)
    (folder / ".htmlvalidate.json").write_text(json.dumps(RULES), encoding="utf-8")
    return folder


def faults_of(validator: Path, page: str) -> list[str]:
    """What the validator finds in a page, each fault with its line and element."""
    (validator / "page.html").write_text(page, encoding="utf-8")
    # to a file: node ends without emptying a pipe
    command = ["node_modules/.bin/html-validate", "--formatter", "json=faults.json", "page.html"]
    done = subprocess.run(command, cwd=validator, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return [
        f"line {fault['line']}, {fault['selector']}: {fault['message']} ({fault['ruleId']})"
        for file in json.loads((validator / "faults.json").read_text(encoding="utf-8"))
        for fault in file["messages"]
    ]


@pytest.mark.network
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_the_validator_finds_no_fault_in_a_page(validator, name, request):
    assert faults_of(validator, request.getfixturevalue(name).read_text(encoding="utf-8")) == []


@pytest.mark.network
def test_the_validator_finds_no_fault_in_a_preview_and_finds_a_planted_one(validator, finished_study, tmp_path):
    config, results = finished_study
    trained = {group for entry in results["allocation"] if entry["part"] == "train" for group in entry["groups"]}
    clips = [clip.clip_id for clip in read_manifest(Path(config.data.manifest)) if clip.group in trained]
    preview(config, [clips[0], clips[-1]], [1, 2], tmp_path / "preview.html")
    assert faults_of(validator, (tmp_path / "preview.html").read_text(encoding="utf-8")) == []
    assert any("no-dup-id" in fault for fault in faults_of(validator, '<p id="a">one</p><p id="a">two</p>'))
