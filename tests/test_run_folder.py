"""Where artefacts lie, what made them, and when two runs are the same."""

import json
import subprocess
from pathlib import Path

import pytest

import listenwell
from listenwell.errors import ListenwellError
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import git_commit, provenance, read_json


def test_provenance_is_json_and_names_version_machine_and_libraries():
    made_by = json.loads(json.dumps(provenance()))
    assert made_by["listenwell"] == listenwell.__version__
    assert made_by["machine"]["cores"] >= 1
    assert "numpy" in made_by["libraries"]


def git(folder: Path, *arguments: str) -> str:
    person = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=/dev/null",
    )
    command = ["git", "-C", str(folder), *person, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_commit_is_that_of_the_package_and_tells_of_changes(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_commit(package) is None
    git(tmp_path, "init", "-q")
    assert git_commit(package) is None, "a package that a repository merely contains, untracked, is not its commit"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert git_commit(package) == commit
    (package / "__init__.py").write_text("# changed\n")
    assert git_commit(package) == f"{commit}+changes"


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LISTENWELL_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("LISTENWELL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "listenwell"


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 200_000])
def test_what_is_no_object_is_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ListenwellError, match=r"results\.json: .*run the study again"):
        read_json(tmp_path / "results.json")
