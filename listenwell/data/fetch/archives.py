"""Unpack an archive (tar, also with gzip or xz, or zip) whole or not at all, and nothing outside its folder.

An archive is refused as a whole when a member's name leads outside, when a link or device in a tar is none that the
standard library's "data" filter allows (PEP 706), or when all members together are more than the limits (an archive
bomb). Everything is written to a temporary folder that takes its name in one rename, with a marker MARKER inside that
holds the archive's hash: a folder without it was not unpacked by this module, or not to its end.
"""

import errno
import gzip
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from listenwell.data.fetch.download import MIB, RESERVE_BYTES, FetchedFile, free_bytes
from listenwell.errors import DownloadError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder, write_json
from listenwell.storage.load_or_make import one_maker

MARKER = ".listenwell-unpacked.json"
DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    ValueError,
)  # fmt: skip
IMPOSSIBLE = (errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ)
"""What the system says of places and names that no sound archive asks for."""
Member = tuple[str, int, int, Callable[[Path], object]]
"""Its name, its bytes, the bytes of the archive up to here, and what writes it below a folder."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to at most. The largest corpus here has 12 GB, and another 61,000 files."""

    n_members: int = 500_000
    n_bytes: int = 64 * 2**30


def unpack(
    archive: FetchedFile,
    folder: Path,
    on_progress: OnProgress = ignore_progress,
    *,
    limits: Limits = Limits(),
    free: Callable[[Path], int] = free_bytes,
) -> Path:
    """Return `folder` after unpacking the archive into it; what is there already is left as it is.

    Raises DownloadError when the archive is damaged, unsafe or too large, or when `folder` holds something else.
    """
    if not folder.exists():
        with one_maker(folder):
            if not folder.exists():
                _unpack(archive, folder, on_progress, limits, free)
                return folder
    _check_marker(archive, folder)
    return folder


def _unpack(
    archive: FetchedFile, folder: Path, on_progress: OnProgress, limits: Limits, free: Callable[[Path], int]
) -> None:
    path, n_members, n_bytes = archive.path, 0, 0
    n_mib, stage = path.stat().st_size // MIB + 1, f"unpacking {path.name} (MiB)"
    with atomic_folder(folder) as temporary, _damage_named(path):
        root = temporary.resolve()
        for name, size, n_read, extract in _members(path):
            n_members, n_bytes = n_members + 1, n_bytes + size
            if not (root / name).resolve().is_relative_to(root):
                raise DownloadError(
                    f"{path}: its member {name!r} would be written outside the folder; nothing was unpacked. Delete "
                    "the archive and fetch it from a source you trust."
                )
            if n_members > limits.n_members or n_bytes > limits.n_bytes:
                raise DownloadError(
                    f"{path}: unpacks to more than {limits.n_members} members or {limits.n_bytes / 2**30:.3g} GiB, "
                    "which no corpus here does; nothing was unpacked. Delete it and fetch it from a source you trust."
                )
            if size + RESERVE_BYTES > (available := free(folder.parent)):
                raise DownloadError(
                    f"{folder}: {path.name} does not fit, {name!r} needs {size / MIB:.0f} MiB and "
                    f"{RESERVE_BYTES // MIB} MiB to spare, but {available / MIB:.0f} MiB are free; nothing was "
                    "unpacked. Free some space and run the command again."
                )
            extract(temporary)
            on_progress(stage, n_read // MIB, n_mib)
        on_progress(stage, n_mib, n_mib)
        record = {"archive": path.name, "sha256": archive.sha256, "n_members": n_members, "n_bytes": n_bytes}
        write_json(temporary / MARKER, record)


def _members(path: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(path):
        n_read = 0
        with zipfile.ZipFile(path) as zipped:
            for info in zipped.infolist():
                n_read += info.compress_size
                yield info.filename, info.file_size, n_read, partial(zipped.extract, info)
        return
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        for entry in archive:
            yield entry.name, entry.size, file.tell(), partial(archive.extract, entry, filter="data")
        # The check sum of gzip and xz stands at their end, behind the last member.
        while archive.fileobj is not None and archive.fileobj.read(MIB):
            pass


def _check_marker(archive: FetchedFile, folder: Path) -> None:
    marker = folder / MARKER
    if not marker.exists():
        raise DownloadError(
            f"{folder}: has no {MARKER}, so it was unpacked by hand, or only half; move it away to have "
            f"{archive.path.name} unpacked here, or prepare the corpus from it as it is."
        )
    try:
        sha256 = str(json.loads(marker.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"{marker}: is broken ({error}), so nothing says what was unpacked here; move the folder away and run the "
            "command again."
        ) from error
    if sha256 != archive.sha256:
        raise DownloadError(
            f"{folder}: was unpacked from an archive with sha256 {sha256[:16]}..., {archive.path.name} has "
            f"{archive.sha256[:16]}...; move the folder away and run the command again."
        )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, DAMAGE) and error.errno not in IMPOSSIBLE:
            raise
        raise DownloadError(
            f"{path}: is damaged, unsafe, or no tar or zip archive ({error}); nothing was unpacked. Delete it and run "
            "the command again."
        ) from error
