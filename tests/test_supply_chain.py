"""The lock fits pyproject.toml and pins every file by hash, `make env` installs it and the CPU build of torch, licences
are listed, and no secret lies in the sources.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = ("test", "docs", "baselines")
SECRETS = {
    "Hugging Face": r"hf_[A-Za-z0-9]{30,}",
    "GitHub": r"gh[pousr]_[A-Za-z0-9]{30,}",
    "AWS": r"AKIA[0-9A-Z]{16}",
    "PyPI": r"pypi-[A-Za-z0-9_-]{50,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}


def locked() -> dict[str, list[tuple[Requirement, int]]]:
    """By name, every version that is locked (one for each marker) and its number of hashes."""
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for block in re.split(r"\n(?=[a-z])", LOCK):
        if not block.startswith("#"):
            requirement = Requirement(block.split("\\")[0].strip())
            hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)
            found.setdefault(canonicalize_name(requirement.name), []).append((requirement, len(hashes)))
    return found


def test_every_dependency_is_locked_at_a_version_that_the_project_allows():
    wanted = [*PROJECT["dependencies"], *(each for extra in EXTRAS for each in PROJECT["optional-dependencies"][extra])]
    packages = locked()
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":
            continue
        for entry, _ in packages[canonicalize_name(requirement.name)]:
            (pinned,) = entry.specifier
            assert pinned.operator == "=="
            assert requirement.specifier.contains(pinned.version), (requirement, entry)


def test_every_locked_package_has_hashes():
    entries = [each for entries in locked().values() for each in entries]
    assert len(entries) > 100
    assert [str(entry) for entry, n_hashes in entries if n_hashes == 0] == []


def test_the_lock_leaves_torch_to_the_constraints_and_holds_no_cuda_library():
    assert [name for name in locked() if name.startswith(("torch", "nvidia", "cuda", "triton"))] == []
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)


PYTHON_THAT_NOTES_ITS_WORDS = """#!/bin/sh
echo "$@" >> {folder}/calls
case "$*" in *{failing}*) echo 'ERROR: no such index' >&2; exit 1;; esac
"""


def make_env(folder: Path, failing: str, *settings: str) -> tuple[int, str, list[str]]:
    """The status and output of `make env`, and its calls of Python, of which those that hold `failing` fail."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON_THAT_NOTES_ITS_WORDS.format(folder=folder, failing=failing), encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "--silent", "env", f"VENV={folder}", *settings]
    outside = {name: value for name, value in os.environ.items() if name != "TORCH" and not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, (folder / "calls").read_text(encoding="utf-8").splitlines()


def test_the_cpu_build_of_the_pinned_torch_is_asked_for_before_the_ordinary_index(tmp_path):
    status, output, (_, _, torch, project) = make_env(tmp_path, "nothing")
    (pin,) = re.findall(r"^torch==.+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert (status, output) == (0, "")
    assert "--index-url https://download.pytorch.org/whl/cpu " in torch
    assert torch.endswith(f" {pin}")
    assert "--index-url" not in project
    assert (tmp_path / ".installed-cpu").exists()


def test_where_the_cpu_builds_are_out_of_reach_one_line_says_so_and_the_ordinary_index_serves(tmp_path):
    status, output, calls = make_env(tmp_path, "--index-url")
    assert (status, len(output.splitlines()), len(calls)) == (0, 1, 4)
    assert "gave no torch==" in output
    assert (tmp_path / ".installed-cpu").exists()


def test_an_environment_that_could_not_be_installed_does_not_count_as_installed(tmp_path):
    status, _, _ = make_env(tmp_path, "--no-build-isolation")
    assert status != 0
    assert not (tmp_path / ".installed-cpu").exists()


def test_with_cuda_no_cpu_build_is_asked_for(tmp_path):
    status, _, calls = make_env(tmp_path, "nothing", "TORCH=cuda")
    assert status == 0
    assert not any("--index-url" in call or "constraints" in call for call in calls)


def test_the_licences_of_all_locked_packages_are_listed():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").split("## Packages")[1]
    rows = dict(re.findall(r"^\| ([a-z0-9._-]+) \| (.+) \|$", page, flags=re.MULTILINE))
    rows.pop("package")
    assert {canonicalize_name(name) for name in rows} == {*locked(), "torch"}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_lies_in_the_tracked_files(kind):
    named = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if named.returncode != 0:
        pytest.skip("not a git checkout: which files are tracked is unknown")
    files = [ROOT / name for name in named.stdout.decode().split("\0") if name]
    assert len(files) > 100
    pattern = re.compile(SECRETS[kind].encode())
    assert [path.name for path in files if path.is_file() and pattern.search(path.read_bytes())] == []
