"""Write files so that a reader sees the old content or the new one, never half of it.

The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in one
rename; the folder is flushed too, so the name survives a power cut. On any failure, a full disk included, the
temporary file is removed and the old file is untouched.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from listenwell.errors import ListenwellError

TEMPORARY = r"\.(old\.)?[a-z0-9_]{8}(\.[^.]+)?"
"""What stands behind .NAME where tempfile makes a name here: its own eight signs and the suffix of a file."""
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
FAILING = (errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ESTALE)
"""What a broken disk, a file beyond a limit and a network disk that is away answer."""
IN_WORDS = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}
"""SQLite's."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; the folder is made when missing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON to `path` atomically, keys as given; NaN and infinity are refused (not JSON)."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it becomes `path`, otherwise it disappears.

    Raises ListenwellError when the disk is full or fails, or the folder cannot be written.
    """
    with disk_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            flush(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, otherwise it disappears."""
    with disk_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                os.chmod(file, 0o755 if file.is_dir() else 0o644)  # libraries make some for this user alone
                flush(file)
            os.chmod(temporary, 0o755)
            if path.exists():
                _replace_folder(temporary, path)
            else:
                os.replace(temporary, path)
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of the folder `path`; where the disk refuses, the old one is put back."""
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        os.replace(path, retired / path.name)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(retired / path.name, path)
            raise
    finally:
        # not the only copy, on a disk that refuses even to put it back
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those around it where they are missing. Raises ListenwellError where the disk refuses."""
    with disk_faults_named(path):
        path.mkdir(parents=True, exist_ok=True)


def is_left_over(path: Path, name: str = "") -> bool:
    """True where only something that is being written, or that a killed writer left, is called so.

    name: of the file or folder to be; "" is any.
    """
    return re.fullmatch(rf"\.{re.escape(name) or '.+'}{TEMPORARY}", path.name) is not None


def remove_left_over(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in `folder`, of the file or folder `name` alone where one is given.

    Call it only where nobody else writes these.
    """
    for path in sorted(each for each in folder.glob(".*") if is_left_over(each, name)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def disk_faults_named(path: Path) -> Iterator[None]:
    """Turn what the system answers to a write below `path`'s folder into one sentence: `path`, the next step.

    Errors about files elsewhere, such as one that was to be copied, pass.
    """
    try:
        yield
    except Exception as error:
        number = _errno_of(error)
        if number is None or not _may_be_about(error, path):
            raise
        if number in FULL:
            raise ListenwellError(
                f"{path}: the disk is full; nothing was written under this name. "
                "Free some space and run the command again."
            ) from error
        if number in FORBIDDEN:
            raise ListenwellError(
                f"{path}: cannot be written ({os.strerror(number)}); choose a folder you may write to."
            ) from error
        if number in FAILING:
            raise ListenwellError(
                f"{path}: the disk failed ({os.strerror(number)}); nothing was written under this name. Check the "
                "disk, or choose a folder on another one, and run the command again."
            ) from error
        raise


def _errno_of(error: Exception) -> int | None:
    """The system's number of an error, also of one that libraries in Rust and C tell in words; None for others."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else next((number for text, number in IN_WORDS.items() if text in str(error)), None)


def _may_be_about(error: Exception, path: Path) -> bool:
    """False for an error that names a file which does not lie around or below the folder of `path`."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes | os.PathLike):
        return True
    named, folder = Path(os.fsdecode(error.filename)).absolute(), path.parent.absolute()
    return named.is_relative_to(folder) or folder.is_relative_to(named)


def flush(path: Path) -> None:
    """Put what was written to a file, or the names in a folder, on the disk itself; a power cut takes the rest."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
