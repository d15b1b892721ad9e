"""The pages are HTML without a fault that html-validate finds, whatever names they hold.

Its rules: the content model, ARIA, references between elements, landmarks, and what browsers repair in silence.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from made_results import make_results

from listenwell.data.manifest import read_manifest
from listenwell.report.comparison import comparison_page
from listenwell.report.write import PAGE, write_report
from listenwell.tasks.compare import Reading, compare_runs
from listenwell.tasks.preview import preview

VALIDATOR = "html-validate@9.7.1"
RULES = {
    "root": True,
    "extends": [f"html-validate:{each}" for each in ("recommended", "document", "a11y", "standard")],
    "rules": {"long-title": "off"},  # advice for search engines; a title here holds a user's name
}
pytestmark = pytest.mark.network


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


def faults(validator: Path, page: str) -> list[str]:
    """What the validator finds in a page, each fault with its line and element."""
    (validator / "page.html").write_text(page, encoding="utf-8")
    # to a file: node ends without emptying a pipe
    command = ["node_modules/.bin/html-validate", "--formatter", "json=found.json", "page.html"]
    done = subprocess.run(command, cwd=validator, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return [
        f"line {found['line']}, {found['selector']}: {found['message']} ({found['ruleId']})"
        for file in json.loads((validator / "found.json").read_text(encoding="utf-8"))
        for found in file["messages"]
    ]


def test_the_report_of_a_finished_study(validator, finished_study):
    assert faults(validator, (finished_study[0].output / PAGE).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["<b>\"'& a", "two\nlines", "W" * 300, "\u202eturned"])
def test_a_report_whose_names_are_hostile(validator, tmp_path, name):
    results = make_results()
    results |= {"name": name, "warnings": [name], "quarantine": [{"clip_id": name, "reason": name}]}
    for entry in results["allocation"]:
        entry["groups"] = [f"{name}{group}" for group in entry["groups"]]
    for test_set in results["test_sets"]:
        test_set["title"] += name
    write_report(results, tmp_path)
    assert faults(validator, (tmp_path / PAGE).read_text(encoding="utf-8")) == []


def test_two_studies_side_by_side(validator, finished_study, tmp_path):
    run = finished_study[0].output
    copied = shutil.copytree(run, tmp_path / "copied")
    compared = compare_runs([str(run), str(copied)], Reading({}), seed=0)
    assert faults(validator, comparison_page(compared)) == []


def test_what_training_hears(validator, finished_study, tmp_path):
    config, results = finished_study
    trained = {group for entry in results["allocation"] if entry["part"] == "train" for group in entry["groups"]}
    clips = [clip.clip_id for clip in read_manifest(Path(config.data.manifest)) if clip.group in trained]
    preview(config, [clips[0], clips[-1]], [1, 2], tmp_path / "preview.html")
    assert faults(validator, (tmp_path / "preview.html").read_text(encoding="utf-8")) == []


def test_a_fault_is_found(validator):
    assert any("no-dup-id" in fault for fault in faults(validator, '<p id="a">one</p><p id="a">two</p>'))
