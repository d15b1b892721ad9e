"""docs/api.md lists the public names with their parameters as they are, and its examples run."""

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import soundfile
from api_page import with_names
from made_sounds import make_study

import listenwell
from listenwell.config import dump
from listenwell.random_streams import stream

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
TEXT = PAGE.read_text(encoding="utf-8")


def listed() -> list[tuple[str, str, str]]:
    """(package, dotted name, parameters) of every function of a table's first column."""
    found, package = [], ""
    for line in TEXT.splitlines():
        if heading := re.match(r"## (?:From )?`([\w.]+)`", line):
            package = heading[1]
        if line.startswith("| `"):
            cell = line.split(" | ")[0]
            found += [(package, name, given) for name, given in re.findall(r"`([\w.]+)\(([^)]*)\)`", cell)]
    return found


@pytest.mark.parametrize(("package", "name", "parameters"), listed(), ids=lambda value: value)
def test_a_listed_function_has_these_parameters(package, name, parameters):
    first, *rest = name.split(".")
    try:
        found = getattr(import_module(package), first)
    except AttributeError:
        found = import_module(f"{package}.{first}")
    for part in rest:
        found = getattr(found, part)
    signature = [each for each in inspect.signature(found).parameters if each != "self"]
    assert signature == (parameters.split(", ") if parameters else [])


def test_the_list_of_public_names_is_that_of_the_code():
    assert with_names(TEXT) == TEXT, "run: python tools/api_page.py"
    assert [name for name in listenwell.__all__ if not re.search(rf"`{name}\b", TEXT)] == []


def test_the_examples_of_the_page_run(made_detector, tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text(dump(make_study(tmp_path, "train.epochs=1")), encoding="utf-8")
    (tmp_path / "detector").symlink_to(made_detector)
    soundfile.write(tmp_path / "meeting.wav", 0.1 * stream(4, "meeting").standard_normal(80_000), 16_000)
    monkeypatch.chdir(tmp_path)
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
