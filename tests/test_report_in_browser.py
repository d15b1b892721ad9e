"""The report of a finished study as a person opens it: from a file, in a browser, on a phone, in the dark, on paper."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from chromium import open_tab

AXE = "axe-core@4.10.3"
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_tab(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def report(finished_study) -> Path:
    return finished_study[0].output / "report.html"


def test_it_asks_for_nothing_and_complains_of_nothing(tab, report):
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(report)
    outside = [url for url in tab.requests if not url.startswith(("data:", report.resolve().as_uri()))]
    assert (outside, tab.complaints) == ([], [])


def test_every_sound_plays(tab, report):
    tab.open(report)
    played = tab.run("""(async () => {
        const sounds = [...document.querySelectorAll("audio")];
        for (const sound of sounds) { sound.muted = true; await sound.play(); sound.pause(); }
        return sounds.map(sound => sound.duration);
    })()""")
    assert len(played) > 0
    assert min(played) > 0


def test_a_table_sorts_by_a_click_on_its_head_and_by_key(tab, report):
    tab.open(report)
    column = """[...document.querySelector("table").querySelectorAll("tbody tr")].map(
        row => parseFloat(row.cells[1].textContent.replace("\\u2212", "-")))"""
    before = tab.run(column)
    tab.run("""document.querySelector("table").querySelectorAll("thead th")[1].querySelector("button").click()""")
    first = tab.run(column)
    assert sorted(first) == sorted(before)
    assert first in (sorted(before), sorted(before, reverse=True))
    tab.run("""document.querySelector("table").querySelectorAll("thead th")[1].querySelector("button").focus()""")
    tab.press("Enter", 13)
    assert tab.run(column) == first[::-1] or len(set(first)) < len(first)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(tab, report, scheme):
    tab.open(report, width=360, height=740, scheme=scheme)
    assert tab.run("document.documentElement.scrollWidth") <= 360


def test_it_is_dark_where_the_reader_wants_it_dark(tab, report):
    colours = []
    for scheme in ("light", "dark"):
        tab.open(report, scheme=scheme)
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(int(part) for part in colour[4:-1].split(",")) for colour in colours)
    assert dark < 200 < 600 < light


def test_it_prints(tab, report):
    tab.open(report)
    paper = tab.paper()
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") + paper.count(b"/Type/Page") > 1


@pytest.mark.network
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_of_accessibility(tab, report, scheme, axe):
    tab.open(report, scheme=scheme)
    tab.run(f"{axe.read_text(encoding='utf-8')}; 0")
    found = tab.run("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
                    "v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')))")  # fmt: skip
    assert found == []


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
