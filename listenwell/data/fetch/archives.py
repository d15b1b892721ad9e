"""Unpack an archive (tar, also with gzip or xz, or zip) whole or not at all, and nothing outside its folder.

Members are refused, with the whole archive, when their name is absolute or climbs out with "..", when they are links
or devices (corpora hold none), or when all together are more than the limits allow (an archive bomb). Tar members go
through the standard library's "data" filter (PEP 706) as well. Everything is written to a temporary folder that takes
its name in one rename, with a marker MARKER inside that holds the archive's hash: a folder without it was not
unpacked by this module, or not to its end.
"""

import errno
import gzip
import json
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from listenwell.data.fetch.download import MIB, RESERVE_BYTES, FetchedFile, free_bytes
from listenwell.errors import DownloadError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder, write_json
from listenwell.storage.cache import one_maker

MARKER = ".listenwell-unpacked.json"
DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    ValueError,
)  # fmt: skip
IMPOSSIBLE = (errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ)
"""What the system says of places and names that no sound archive asks for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to at most. The largest corpus here has 12 GB, and another 61,000 files."""

    n_members: int = 500_000
    n_bytes: int = 64 * 2**30


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry. n_read: bytes of the archive up to here, for the progress."""

    name: str
    n_bytes: int
    is_plain: bool
    n_read: int
    unpack: Callable[[Path], object]


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
    n_members = n_bytes = 0
    n_mib = archive.path.stat().st_size // MIB + 1
    with atomic_folder(folder) as temporary:
        with _damage_named(archive.path):
            for member in _members(archive.path):
                n_members, n_bytes = n_members + 1, n_bytes + member.n_bytes
                _check_member(archive.path, member)
                _check_limits(archive.path, n_members, n_bytes, limits)
                _check_space(archive.path, folder, member, free(folder.parent))
                member.unpack(temporary)
                on_progress(f"unpacking {archive.path.name} (MiB)", member.n_read // MIB, n_mib)
        on_progress(f"unpacking {archive.path.name} (MiB)", n_mib, n_mib)
        record = {"archive": archive.path.name, "sha256": archive.sha256, "n_members": n_members, "n_bytes": n_bytes}
        write_json(temporary / MARKER, record)


def _check_marker(archive: FetchedFile, folder: Path) -> None:
    marker = folder / MARKER
    if not marker.exists():
        raise DownloadError(
            f"{folder}: has no {MARKER}, so it was unpacked by hand, or only half; move it away to have "
            f"{archive.path.name} unpacked here, or prepare the corpus from it as it is."
        )
    try:
        found = str(json.loads(marker.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"{marker}: is broken ({error}), so nothing says what was unpacked here; move the folder away and run the "
            "command again."
        ) from error
    if found != archive.sha256:
        raise DownloadError(
            f"{folder}: was unpacked from an archive with sha256 {found[:16]}..., {archive.path.name} has "
            f"{archive.sha256[:16]}...; move the folder away and run the command again."
        )


def _members(path: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(path):
        yield from _zip_members(path)
    else:
        yield from _tar_members(path)


def _tar_members(path: Path) -> Iterator[_Member]:
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        for entry in archive:
            is_plain = entry.isreg() or entry.isdir()
            yield _Member(entry.name, entry.size, is_plain, file.tell(), partial(archive.extract, entry, filter="data"))
        # The check sum of gzip and xz stands at their end, behind the last member.
        while archive.fileobj is not None and archive.fileobj.read(MIB):
            pass


def _zip_members(path: Path) -> Iterator[_Member]:
    n_read = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            n_read += entry.compress_size
            is_plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            yield _Member(entry.filename, entry.file_size, is_plain, n_read, partial(archive.extract, entry))


def _check_member(path: Path, member: _Member) -> None:
    if not member.name:
        raise DownloadError(
            f"{path}: holds a member without a name; nothing was unpacked. Delete it and run the command again."
        )
    climbs = any(".." in kind(member.name).parts for kind in (PurePosixPath, PureWindowsPath))
    if climbs or PurePosixPath(member.name).is_absolute() or PureWindowsPath(member.name).drive:
        raise DownloadError(
            f"{path}: its member {member.name!r} would be written outside the folder; nothing was unpacked. Delete "
            "the archive and fetch it from a source you trust."
        )
    if not member.is_plain:
        raise DownloadError(
            f"{path}: its member {member.name!r} is a link or a device, only files and folders were expected; nothing "
            "was unpacked. Delete the archive and fetch it from a source you trust."
        )


def _check_limits(path: Path, n_members: int, n_bytes: int, limits: Limits) -> None:
    if n_members > limits.n_members or n_bytes > limits.n_bytes:
        raise DownloadError(
            f"{path}: unpacks to more than {limits.n_members} members or {limits.n_bytes / 2**30:.3g} GiB, which no "
            "corpus here does; nothing was unpacked. Delete it and fetch it from a source you trust."
        )


def _check_space(path: Path, folder: Path, member: _Member, available: int) -> None:
    if member.n_bytes + RESERVE_BYTES > available:
        raise DownloadError(
            f"{folder}: {path.name} does not fit, {member.name!r} needs {member.n_bytes / MIB:.0f} MiB and "
            f"{RESERVE_BYTES // MIB} MiB to spare, but {available / MIB:.0f} MiB are free; nothing was unpacked. Free "
            "some space and run the command again."
        )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, DAMAGE) and error.errno not in IMPOSSIBLE:
            raise
        raise DownloadError(
            f"{path}: is damaged, or no tar or zip archive ({error}); nothing was unpacked. Delete it and run the "
            "command again."
        ) from error
