"""Write files so that a reader sees the old content or the new one, never half of it, and nothing else is touched.

The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in one
rename; the folder is flushed too, so the name survives a power cut. On any failure, a full disk included, the
temporary file is removed and the old file is untouched.

What is there stays what it is: a symbolic link is followed, a pipe or device is refused, a file or folder keeps its
permissions; new ones get those that the umask gives. Every name made beside a file begins with
OWN and holds the hash of the file's name: short, and given by nobody else, so that what kills left can be removed.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from listenwell.errors import ListenwellError

OWN = ".listenwell-"
LEFT_OVER = re.compile(rf"{re.escape(OWN)}(tmp|old)-([0-9a-f]{{8}})-[0-9a-z_]{{8}}(\..{{1,15}})?", re.DOTALL)
"""The kind, the hash of a name, what makes it the only one, and the suffix of the file."""
LONGEST_SUFFIX = 16
"""Longer ones are no suffixes but names with a dot."""
OPEN_FILE = re.compile("/dev/(?:std|fd/)|/proc/")
NO_FILE = "is a pipe, a device or an open file; give the name of a file."
FAULTS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "the disk is full; nothing was written under this name. Free some space and run the command again.",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EROFS, errno.EPERM), "cannot be written ({}); choose a folder you may write to."
    ),
    # what a broken disk, a file beyond a limit and a network disk that is away answer
    **dict.fromkeys(
        (errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ESTALE),
        "the disk failed ({}); nothing was written under this name. Check the disk, or choose a folder on another one, "
        "and run the command again.",
    ),
}
UNUSABLE = {
    errno.ENAMETOOLONG: "its name is too long for this disk; give a shorter one.",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder was expected; give another name."),
    errno.EISDIR: "is a folder, a file was expected; give another name.",
    errno.ELOOP: "is a symbolic link that leads back to itself; remove it, or give another name.",
    errno.EBUSY: "is in use, maybe mounted by itself, and cannot be replaced; give a name in another folder.",
}
"""What names answer that no file or folder can have."""
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""What network disks and file systems in user space answer to a flush of a folder that they do not know."""


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

    Raises ListenwellError when the disk is full or fails, or nothing can be written there.
    """
    if is_special(path):
        raise ListenwellError(f"{path}: {NO_FILE}")
    path = _followed(path)
    with disk_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        temporary = path.with_name(_temporary_name(path))
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            mode = _mode_of(path, like=temporary)
            _set_mode(temporary, mode | stat.S_IRUSR | stat.S_IWUSR)
            yield temporary
            flush(temporary)
            _set_mode(temporary, mode)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, otherwise it disappears.

    The folder that is replaced goes with all it holds: `listenwell.storage.destination` asks before. One that somebody
    else made meanwhile stays. Raises ListenwellError for that, and as `atomic_path`.
    """
    path = _followed(path)
    with disk_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        if not is_new and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        temporary = path.with_name(_temporary_name(path))
        os.mkdir(temporary)
        try:
            usual = _mode_of(temporary, like=temporary)
            mode = _mode_of(path, like=temporary)
            _set_mode(temporary, mode | stat.S_IRWXU)
            yield temporary
            for inner in temporary.rglob("*"):
                if not inner.is_symlink():
                    # libraries make some for this user alone
                    _set_mode(inner, usual if inner.is_dir() else usual & 0o666)
                    flush(inner)
            _set_mode(temporary, mode)
            if is_new and path.is_dir() and any(path.iterdir()):
                raise ListenwellError(f"{path}: somebody else made it meanwhile; it stays. Give another name.")
            _replace_folder(temporary, path)
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of the folder `path`; where the disk refuses, the old one is put back."""
    if not path.exists():
        os.replace(new, path)
        return
    retired = path.with_name(_temporary_name(path, "old"))
    os.mkdir(retired, 0o700)
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


@contextmanager
def hold_lock(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Hold the lock file at `path` within the block; the system frees it when its process ends, however that ends.

    waiting: what is said on standard error while another process holds it; None raises filelock.Timeout instead.
    """
    lock = FileLock(path)
    try:
        make_folder(path.parent)
        with disk_faults_named(path):
            lock.acquire(timeout=0)
    except Timeout:
        if waiting is None:
            raise
        print(f"listenwell: {waiting}; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all it holds; it may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """True for what cannot be replaced by a file: a pipe, a device, an open file such as /dev/stdout."""
    if OPEN_FILE.match(os.path.abspath(path)):
        return True
    with suppress(OSError):
        return not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode))
    return False


def _followed(path: Path) -> Path:
    """Where a symbolic link, or a path without a name such as "..", leads; `path` itself where it is none."""
    return Path(os.path.realpath(path)) if os.path.islink(path) or path.name in ("", "..") else path


# Names beside a file


def temporary_prefix(name: str, kind: str = "tmp") -> str:
    """How temporary names of the file or folder `name` begin; eight characters of [a-z0-9_] follow, then a suffix."""
    return f"{OWN}{kind}-{_hash_name(name)}-"


def companion(path: Path, suffix: str) -> Path:
    """The file of our own beside `path` that ends in `suffix`, such as its lock."""
    path = Path(os.path.abspath(path))
    return path.parent / f"{OWN}{_hash_name(path.name)}{suffix}"


def _temporary_name(path: Path, kind: str = "tmp") -> str:
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    return f"{temporary_prefix(path.name, kind)}{secrets.token_hex(4)}{suffix}"


def _hash_name(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def is_left_over(path: Path, name: str = "") -> bool:
    """True where only something that is being written, or that a killed writer left, is called so.

    name: of the file or folder to be; "" is any. A folder moved aside that is the only copy of its content is none.
    """
    match = LEFT_OVER.fullmatch(path.name)
    if match is None or (name and match[2] != _hash_name(name)):
        return False
    return match[1] == "tmp" or (path.is_dir() and all((path.parent / inner.name).exists() for inner in path.iterdir()))


def remove_left_over(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in `folder`, of the file or folder `name` alone where one is given.

    Call it only where nobody else writes these.
    """
    for path in folder.glob(f"{OWN}*"):
        if is_left_over(path, name):
            remove(path)


# What the system answers


@contextmanager
def disk_faults_named(path: Path) -> Iterator[None]:
    """Turn what the system answers to a write below `path`'s folder into one sentence: `path`, the next step.

    Errors about files elsewhere, such as one that was to be copied, and about names inside a folder at `path` pass.
    """
    try:
        yield
    except Exception as error:
        number = _errno_of(error)
        named = [] if not isinstance(error, OSError) else [_absolute(error.filename), _absolute(error.filename2)]
        places = [place for place in named if place is not None]
        whole, folder = path.absolute(), path.parent.absolute()
        is_about = not places or places[0].is_relative_to(folder) or folder.is_relative_to(places[0])
        if number in UNUSABLE:
            is_about = any(whole.is_relative_to(place) for place in places)
        if number is None or not is_about or not (sentence := describe_fault(path, number)):
            raise
        raise ListenwellError(sentence) from error


def describe_fault(path: Path, number: int) -> str:
    """The sentence about a write to `path` that the system answered with this number; "" for others."""
    sentence = (FAULTS | UNUSABLE).get(number, "").format(os.strerror(number))
    return sentence and f"{path}: {sentence}"


def _errno_of(error: Exception) -> int | None:
    """The system's number of an error, also of one that a library in Rust tells in words; None for others."""
    if isinstance(error, OSError):
        return error.errno
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match else None


def _absolute(name: Any) -> Path | None:
    return Path(os.fsdecode(name)).absolute() if isinstance(name, str | bytes | os.PathLike) else None


def flush(path: Path) -> None:
    """Put what was written to a file, or the names in a folder, on the disk itself; a power cut takes the rest.

    A disk that cannot flush folders is trusted to keep their names.
    """
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


def _mode_of(path: Path, like: Path) -> int:
    """The permissions of `path`; where it is missing, those of `like`, which the umask gave."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(os.stat(path).st_mode)
    return stat.S_IMODE(os.stat(like).st_mode)


def _set_mode(path: Path, mode: int) -> None:
    """Disks without permissions refuse to set any, also those that all their files have."""
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
