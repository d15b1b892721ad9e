"""The lock fits pyproject.toml and pins every file by hash, licences are listed, and no secret lies in the sources."""

import re
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


@pytest.mark.parametrize(
    ("kind", "text"), [("Hugging Face", "hf_" + "a1" * 17), ("AWS", "AKIA" + "Z9" * 8), ("GitHub", "ghp_" + "x" * 36)]
)
def test_the_search_finds_such_a_secret(kind, text):
    assert re.search(SECRETS[kind], f"token = '{text}'")
