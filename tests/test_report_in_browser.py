"""The pages as a person opens them: from a file, in a browser, on a phone, in the dark, without a fault axe finds."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from chromium import open_tab

from listenwell.report.comparison import comparison_page
from listenwell.report.write import PAGE, render_page
from listenwell.tasks.compare import Reading, compare_runs

pytestmark = pytest.mark.slow

AXE = "axe-core@4.10.3"


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
