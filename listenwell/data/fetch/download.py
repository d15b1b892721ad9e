"""Download a file and unpack an archive: interruptions cost little, and nothing half or wrong is taken for whole.

    NAME.part    what has arrived; kept on Ctrl-C, a dropped connection or a full disk
    NAME         the whole file, in one rename, after its published hash was checked

A part is continued where a change of the file on the server would be noticed: by its published hash, or, within a run,
by the server's validator (If-Range: RFC 9110, section 13.1.5). Dropped connections, time-outs and answers 408, 429 and
5xx are tried again, with exponentially growing pauses, as long as the part grows and then LARGEST_FAILURES times; other
answers are errors at once.

An archive (tar, also with gzip or xz, or zip) is refused as a whole when a member's name leads outside, or a link or
device in a tar is none that the standard library's "data" filter allows (PEP 706). It is unpacked into a temporary
folder that takes its name in one rename, with MARKER inside, which holds the archive's hash: a folder without it was
not unpacked here, or not to its end.
"""

import errno
import gzip
import hashlib
import lzma
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from listenwell.errors import DownloadError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder, disk_faults_named
from listenwell.storage.load_or_make import one_maker, read_checksummed, write_checksummed

LARGEST_FAILURES = 5
FIRST_PAUSE_S = 1.0
TIMEOUT_S = 60.0
RESERVE_BYTES = 2**26
"""What must stay free on the disk beside the file, so that a download does not stop the machine."""
TRANSIENT_STATUSES = (408, 429)
MIB = 2**20
MARKER = ".listenwell-unpacked.json"
DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    ValueError,
)  # fmt: skip
IMPOSSIBLE = (errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ)
"""What the system says of places and names that no sound archive asks for."""
Member = tuple[str, int, Callable[[Path], object]]
"""Its name, the bytes of the archive up to here, and what writes it below a folder."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download.

    name: under which it is kept; n_bytes: its size, 0 where it was not published; checksum: "sha256:..." or "md5:...",
    "" where none was published.
    """

    name: str
    url: str
    n_bytes: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file on disk whose content was checked."""

    path: Path
    sha256: str


class _TransientError(Exception):
    """Something that may go better at the next attempt."""


def download(
    file: RemoteFile,
    folder: Path,
    on_progress: OnProgress = ignore_progress,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchedFile:
    """Return `file` in `folder`, fetching what is not there yet. `sleep` takes seconds.

    Raises DownloadError when the file cannot be had, is not the expected one, or does not fit on the disk.
    """
    path = folder / file.name
    part = path.with_name(f"{path.name}.part")
    with disk_faults_named(path):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return FetchedFile(path, _check_content(file, path, on_progress, "delete it and run the command again"))
        if not file.checksum:
            part.unlink(missing_ok=True)
        _Fetch(file, part, on_progress).run(sleep)
        try:
            sha256 = _check_content(file, part, on_progress, "it was not kept, give a mirror with --url")
        except DownloadError:  # it must not be continued
            part.unlink()
            raise
        part.replace(path)
    return FetchedFile(path, sha256)


@dataclass(slots=True)
class _Fetch:
    """Fills `part` to its end, attempt by attempt. if_range: the server's validator of the part, "" before one came."""

    file: RemoteFile
    part: Path
    on_progress: OnProgress
    if_range: str = ""

    def run(self, sleep: Callable[[float], None]) -> None:
        failures, largest = 0, 0
        with httpx2.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
            while True:
                try:
                    self._attempt(client)
                    return
                except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
                    raise DownloadError(f"{self.file.url}: cannot be fetched ({error}); check the URL.") from error
                except (_TransientError, httpx2.TransportError) as error:
                    reason = str(error) or type(error).__name__
                size = _size(self.part)
                failures = 0 if size > largest else failures + 1
                largest = max(largest, size)
                if failures > LARGEST_FAILURES:
                    raise DownloadError(
                        f"{self.file.url}: gave up after {failures} attempts without progress ({reason}); {size} bytes "
                        f"are kept in {self.part.name}. Check the network, then run the command again to go on."
                    )
                sleep(FIRST_PAUSE_S * 2.0**failures)

    def _attempt(self, client: httpx2.Client) -> None:
        """Ask once for what is missing and append it. Raises _TransientError or httpx2's errors where it stops."""
        with client.stream("GET", self.file.url, headers=self._headers()) as response:
            status, have = response.status_code, _size(self.part)
            content_range = response.headers.get("content-range", "")
            if status == 416 and content_range == f"bytes */{have}":
                return  # everything had arrived already
            if status in (206, 416) and not content_range.startswith(f"bytes {have}-"):
                self.part.unlink(missing_ok=True)
                raise _TransientError("the server has not the range that was asked for")
            if status >= 500 or status in TRANSIENT_STATUSES:
                raise _TransientError(f"the server answered {status}")
            if status not in (200, 206):
                raise DownloadError(
                    f"{self.file.url}: the server answered {status} ({response.reason_phrase}), 200 was expected; "
                    "check the URL, or give a mirror with --url."
                )
            have = have if status == 206 else 0
            text = content_range.rpartition("/")[2] if status == 206 else response.headers.get("content-length", "")
            total = int(text) if text.isdigit() else 0
            self._check_room(total, have)
            self._append(response, have, total)

    def _headers(self) -> dict[str, str]:
        """Ask for the rest, where a change of the file on the server would be noticed."""
        headers, size = {"Accept-Encoding": "identity"}, _size(self.part)
        if size and (self.if_range or self.file.checksum):
            headers["Range"] = f"bytes={size}-"
            headers |= {"If-Range": self.if_range} if self.if_range else {}
        return headers

    def _check_room(self, total: int, have: int) -> None:
        """Raise DownloadError for a file of another size, and where it does not fit on the disk."""
        expected, folder = self.file.n_bytes, self.part.parent
        if expected and total and total != expected:
            raise DownloadError(
                f"{self.file.url}: offers {total} bytes, {expected} were expected; it is another file, give a mirror "
                "of the right one with --url."
            )
        if total - have + RESERVE_BYTES > (available := shutil.disk_usage(folder).free):
            raise DownloadError(
                f"{folder}: {self.file.name} needs {(total - have) / MIB:.0f} MiB more and {RESERVE_BYTES // MIB} MiB "
                f"to spare, but {available / MIB:.0f} MiB are free; free some space or choose another folder."
            )

    def _append(self, response: httpx2.Response, have: int, total: int) -> None:
        """Write the answer's body after the first `have` bytes; `total` is the whole file's size, 0 where not known.

        Raises _TransientError when the answer ends before the file does.
        """
        etag, shown = response.headers.get("etag", ""), -1
        self.if_range = etag if etag.startswith('"') else response.headers.get("last-modified", "")
        with self.part.open("ab" if have else "wb") as written:
            for chunk in response.iter_raw():
                written.write(chunk)
                have += len(chunk)
                if have // MIB > shown:
                    shown = have // MIB
                    stage = f"downloading {self.file.name} (MiB)"
                    self.on_progress(stage, shown, total // MIB if total else shown + 1)
        if total and have != total:
            raise _TransientError(f"the server sent {have} of {total} bytes")


def _check_content(file: RemoteFile, path: Path, on_progress: OnProgress, next_step: str) -> str:
    """Return the sha256 of `path` after comparing it with what was published."""
    sha256 = _hash(path, "sha256", on_progress)
    algorithm, _, expected = file.checksum.partition(":")
    actual = sha256 if algorithm in ("", "sha256") else _hash(path, algorithm, on_progress)
    if expected not in ("", actual):
        raise DownloadError(
            f"{path}, from {file.url}: has {algorithm} {actual}, expected {expected}, as published; {next_step}."
        )
    return sha256


def _hash(path: Path, algorithm: str, on_progress: OnProgress) -> str:
    digest, n_mib = hashlib.new(algorithm, usedforsecurity=False), -(-_size(path) // MIB)
    with path.open("rb") as file:
        for done in range(1, n_mib + 1):
            digest.update(file.read(MIB))
            on_progress(f"checking {path.name} (MiB)", done, n_mib)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# Unpacking


def unpack(archive: FetchedFile, folder: Path, on_progress: OnProgress = ignore_progress) -> Path:
    """Return `folder` after unpacking the archive into it; what is there already is left as it is.

    Raises DownloadError when the archive is damaged or unsafe, or when `folder` holds something else.
    """
    if not folder.exists():
        with one_maker(folder):
            if not folder.exists():
                _unpack(archive, folder, on_progress)
                return folder
    marker = folder / MARKER
    if not marker.exists():
        raise DownloadError(
            f"{folder}: has no {MARKER}, so it was unpacked by hand, or only half; move it away to have "
            f"{archive.path.name} unpacked here, or prepare the corpus from it as it is."
        )
    if (sha256 := str(read_checksummed(marker, DownloadError).get("sha256"))) != archive.sha256:
        raise DownloadError(
            f"{folder}: was unpacked from an archive with sha256 {sha256[:16]}..., {archive.path.name} has "
            f"{archive.sha256[:16]}...; move the folder away and run the command again."
        )
    return folder


def _unpack(archive: FetchedFile, folder: Path, on_progress: OnProgress) -> None:
    path = archive.path
    n_mib, stage = path.stat().st_size // MIB + 1, f"unpacking {path.name} (MiB)"
    with atomic_folder(folder) as temporary:
        root = temporary.resolve()
        try:
            for name, n_read, extract in _members(path):
                if not (root / name).resolve().is_relative_to(root):
                    raise DownloadError(
                        f"{path}: its member {name!r} would be written outside the folder; nothing was unpacked. "
                        "Delete it and fetch it from a source you trust."
                    )
                extract(temporary)
                on_progress(stage, n_read // MIB, n_mib)
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, DAMAGE) and error.errno not in IMPOSSIBLE:
                raise
            raise DownloadError(
                f"{path}: is damaged, unsafe, or no tar or zip archive ({error}); nothing was unpacked. Delete it and "
                "run the command again."
            ) from error
        on_progress(stage, n_mib, n_mib)
        write_checksummed(temporary / MARKER, {"archive": path.name, "sha256": archive.sha256})


def _members(path: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(path):
        n_read = 0
        with zipfile.ZipFile(path) as zipped:
            for info in zipped.infolist():
                n_read += info.compress_size
                yield info.filename, n_read, partial(zipped.extract, info)
        return
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        for entry in archive:
            yield entry.name, file.tell(), partial(archive.extract, entry, filter="data")
        # The check sum of gzip and xz stands at their end, behind the last member.
        while archive.fileobj is not None and archive.fileobj.read(MIB):
            pass
