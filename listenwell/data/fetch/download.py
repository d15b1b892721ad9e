"""Download one file so that an interruption costs nothing and a wrong file is never taken for the right one.

    NAME.part        what has arrived; kept on Ctrl-C, a dropped connection or a full disk, and continued later
    NAME.part.json   the server's validator (strong ETag or date) of that part, for If-Range (RFC 9110, section 13.1.5)
    NAME             the whole file, in one rename, after its hash was checked
    NAME.json        url, size and sha256, recorded on first use; compared whenever the file is used or fetched again

A server that ignores ranges sends everything, and the part is written anew. Dropped connections, time-outs and
answers 408, 429 and 5xx are tried again, with exponentially growing pauses, as long as the part grows and then
LARGEST_FAILURES times; other answers are errors at once.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from listenwell.errors import DownloadError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import disk_faults_named, write_json

LARGEST_FAILURES = 5
FIRST_PAUSE_S = 1.0
TIMEOUT_S = 60.0
RESERVE_BYTES = 2**26
"""What must stay free on the disk beside the file, so that a download does not stop the machine."""
TRANSIENT_STATUSES = (408, 429)
MIB = 2**20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download.

    name: under which it is kept; n_bytes: its size, 0 where it was not published.
    checksum: "sha256:..." or "md5:...", "" where none was published: then the first download is recorded.
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


def free_bytes(folder: Path) -> int:
    """Return how much of the folder's disk is free."""
    return shutil.disk_usage(folder).free


def download(
    file: RemoteFile,
    folder: Path,
    on_progress: OnProgress = ignore_progress,
    *,
    sleep: Callable[[float], None] = time.sleep,
    free: Callable[[Path], int] = free_bytes,
) -> FetchedFile:
    """Return `file` in `folder`, fetching what is not there yet. `sleep` takes seconds; `free` gives free bytes.

    Raises DownloadError when the file cannot be had, is not the expected one, or does not fit on the disk.
    """
    path = folder / file.name
    part, record = path.with_name(path.name + ".part"), path.with_name(path.name + ".json")
    with disk_faults_named(path):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            sha256 = _check_content(file, path, record, on_progress, "delete it and run the command again")
            n_bytes = _size(path)
        else:
            _fetch(file, part, on_progress, sleep, free)
            try:
                advice = "it was not kept, give a mirror with --url"
                sha256, n_bytes = _check_content(file, part, record, on_progress, advice), _size(part)
            except DownloadError:  # it must not be continued
                part.unlink()
                _validator_of(part).unlink(missing_ok=True)
                raise
        if not record.exists():
            write_json(record, {"url": file.url, "n_bytes": n_bytes, "sha256": sha256})
        if not path.exists():
            part.replace(path)
            _validator_of(part).unlink(missing_ok=True)
    return FetchedFile(path, sha256)


def _validator_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _fetch(
    file: RemoteFile, part: Path, on_progress: OnProgress, sleep: Callable[[float], None], free: Callable[[Path], int]
) -> None:
    """Fill `part` to its end, attempt by attempt."""
    failures, largest = 0, 0
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
        while True:
            try:
                _attempt(client, file, part, on_progress, free)
                return
            except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
                raise DownloadError(f"{file.url}: cannot be fetched ({error}); check the URL.") from error
            except (_TransientError, httpx2.TransportError) as error:
                reason = str(error) or type(error).__name__
            size = _size(part)
            failures = 0 if size > largest else failures + 1
            largest = max(largest, size)
            if failures > LARGEST_FAILURES:
                raise DownloadError(
                    f"{file.url}: gave up after {failures} attempts without progress ({reason}); {size} bytes are "
                    f"kept in {part.name}. Check the network, then run the command again to go on."
                )
            sleep(FIRST_PAUSE_S * 2.0**failures)


def _attempt(
    client: httpx2.Client, file: RemoteFile, part: Path, on_progress: OnProgress, free: Callable[[Path], int]
) -> None:
    """Ask once for what is missing and append it. Raises _TransientError or httpx2's errors when it stops midway."""
    with client.stream("GET", file.url, headers=_range_headers(file, part)) as response:
        status, have = response.status_code, _size(part)
        content_range = response.headers.get("content-range", "")
        if status == 416 and content_range == f"bytes */{have}":
            return  # everything had arrived already
        if status in (206, 416) and not content_range.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _TransientError("the server has not the range that was asked for")
        if status >= 500 or status in TRANSIENT_STATUSES:
            raise _TransientError(f"the server answered {status}")
        if status not in (200, 206):
            raise DownloadError(
                f"{file.url}: the server answered {status} ({response.reason_phrase}), 200 was expected; check the "
                "URL, or give a mirror with --url."
            )
        have = have if status == 206 else 0
        text = content_range.rpartition("/")[2] if status == 206 else response.headers.get("content-length", "")
        total = int(text) if text.isdigit() else 0
        _check_room(file, part, total, have, free(part.parent))
        _append(response, part, have, total, f"downloading {file.name} (MiB)", on_progress)


def _append(response: httpx2.Response, part: Path, have: int, total: int, stage: str, on_progress: OnProgress) -> None:
    """Write the answer's body after the first `have` bytes; `total` is the whole file's size, 0 where not known.

    Raises _TransientError when the answer ends before the file does.
    """
    etag = response.headers.get("etag", "")
    validator = etag if etag.startswith('"') else response.headers.get("last-modified", "")
    shown = -1
    with part.open("ab" if have else "wb") as written:
        write_json(_validator_of(part), {"if_range": validator})
        for chunk in response.iter_raw():
            written.write(chunk)
            have += len(chunk)
            if have // MIB > shown:
                shown = have // MIB
                on_progress(stage, shown, total // MIB if total else shown + 1)
    if total and have != total:
        raise _TransientError(f"the server sent {have} of {total} bytes")


def _range_headers(file: RemoteFile, part: Path) -> dict[str, str]:
    """Ask for the rest, if a change of the file on the server would be noticed: by its validator, or by the hash."""
    headers = {"Accept-Encoding": "identity"}
    size = _size(part)
    validator = str(_read_json(_validator_of(part))["if_range"]) if _validator_of(part).exists() else ""
    if size and (validator or file.checksum):
        headers["Range"] = f"bytes={size}-"
        if validator:
            headers["If-Range"] = validator
    return headers


def _check_room(file: RemoteFile, part: Path, total: int, have: int, available: int) -> None:
    """Raise DownloadError for a file of another size, and where it does not fit on the disk."""
    if file.n_bytes and total and total != file.n_bytes:
        raise DownloadError(
            f"{file.url}: offers {total} bytes, {file.n_bytes} were expected; it is another file, give a mirror of "
            "the right one with --url."
        )
    if total - have + RESERVE_BYTES > available:
        raise DownloadError(
            f"{part.parent}: {file.name} needs {(total - have) / MIB:.0f} MiB more and {RESERVE_BYTES // MIB} MiB to "
            f"spare, but {available / MIB:.0f} MiB are free; free some space or choose another folder."
        )


def _check_content(file: RemoteFile, path: Path, record: Path, on_progress: OnProgress, next_step: str) -> str:
    """Return the sha256 of `path` after comparing it with what was published and what was recorded on first use."""
    sha256 = _hash(path, "sha256", on_progress)
    recorded = f"sha256:{_read_json(record)['sha256']}" if record.exists() else ""
    for checksum, source in ((file.checksum, "as published"), (recorded, f"as recorded in {record.name}")):
        algorithm, _, expected = checksum.partition(":")
        actual = sha256 if algorithm in ("", "sha256") else _hash(path, algorithm, on_progress)
        if expected not in ("", actual):
            raise DownloadError(
                f"{path}, from {file.url}: has {algorithm} {actual}, expected {expected}, {source}; {next_step}."
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


def _read_json(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
