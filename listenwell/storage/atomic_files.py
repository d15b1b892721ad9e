"""Write files so that a reader sees the old content or the new one, never half of it, and nothing else is touched.

The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in one
rename; the folder is flushed too, so the name survives a power cut. On any failure, a full disk included, the
temporary file is removed and the old file is untouched.

What is there stays what it is: a symbolic link is followed, a pipe, device or open file (/dev/stdout) is written to, a
file or folder keeps its permissions; new ones get those that the umask gives. Every name made beside a file begins with
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
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from listenwell.errors import ListenwellError

OWN = ".listenwell-"
LEFT_OVER = re.compile(rf"{re.escape(OWN)}(tmp|old)-([0-9a-f]{{8}})-[0-9a-z_]{{8}}(\..{{1,15}})?", re.DOTALL)
"""The kind, the hash of a name, what makes it the only one, and the suffix of the file."""
LONGEST_SUFFIX = 16
"""Longer ones are no suffixes but names with a dot."""
OPEN_FILES = re.compile(r"/dev/fd|/proc/\d+(/task/\d+)?/fd")
MOST_LINKS = 40
"""Linux follows no more."""
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
FAILING = (errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ESTALE)
"""What a broken disk, a file beyond a limit and a network disk that is away answer."""
UNUSABLE = {
    errno.ENAMETOOLONG: "its name is too long for this disk; give a shorter one.",
    errno.ENOTDIR: "a file stands where a folder was expected; give another name.",
    errno.EEXIST: "a file stands where a folder was expected; give another name.",
    errno.EISDIR: "is a folder, a file was expected; give another name.",
    errno.ELOOP: "is a symbolic link that leads back to itself; remove it, or give another name.",
    errno.EBUSY: "is in use, maybe mounted by itself, and cannot be replaced; give a name in another folder.",
}
"""What names answer that no file or folder can have."""
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""What network disks and file systems in user space answer to a flush of a folder that they do not know."""
IN_WORDS = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}
"""SQLite's."""
_WATCHERS: list[tuple[set[Path], Callable[[Path], None]]] = []


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
def watch_written(check: Callable[[Path], None]) -> Iterator[set[Path]]:
    """Yield a set that gets every file and folder written in the block, absolute and without links.

    check: called with each just before it is written or replaced; what it raises leaves all as it is.
    """
    written: set[Path] = set()
    watcher = (written, check)
    _WATCHERS.append(watcher)
    try:
        yield written
    finally:
        _WATCHERS[:] = [each for each in _WATCHERS if each is not watcher]


def _check_before_writing(path: Path) -> None:
    for written, check in _WATCHERS:
        if (real := Path(os.path.realpath(path))) not in written:
            check(real)


def _tell_written(path: Path) -> None:
    for written, _ in _WATCHERS:
        written.add(Path(os.path.realpath(path)))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it becomes `path`, otherwise it disappears.

    What is a stream gets the bytes at the end. Raises ListenwellError when the disk is full or fails, or nothing can
    be written there.
    """
    if is_stream(path):
        with _copied_into(path) as temporary:
            yield temporary
        return
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
            _check_before_writing(path)
            os.replace(temporary, path)
            flush(path.parent)
            _tell_written(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, otherwise it disappears.

    The folder that is replaced goes with all it holds: `listenwell.storage.destination` asks before.
    """
    path = _followed(path)
    with disk_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        temporary = path.with_name(_temporary_name(path))
        os.mkdir(temporary)
        try:
            usual = _mode_of(temporary, like=temporary)
            mode = _mode_of(path, like=temporary)
            _set_mode(temporary, mode | stat.S_IRWXU)
            yield temporary
            for each in temporary.rglob("*"):
                if not each.is_symlink():
                    # libraries make some for this user alone
                    _set_mode(each, usual if each.is_dir() else usual & 0o666)
                    flush(each)
            _set_mode(temporary, mode)
            _check_before_writing(path)
            if path.exists():
                _replace_folder(temporary, path)
            else:
                os.replace(temporary, path)
            flush(path.parent)
            _tell_written(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of the folder `path`; where the disk refuses, the old one is put back."""
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


def is_stream(path: Path) -> bool:
    """True for what is written to and never replaced: a pipe, a device, an open file such as /dev/stdout."""
    try:
        return _open_file(path) != "" or not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode))
    except OSError:
        return False


def _open_file(path: Path) -> str:
    """The place below /proc or /dev that `path` is, or leads to by symbolic links; "" where that is none."""
    place = os.fspath(path)
    for _ in range(MOST_LINKS):
        folder, name = os.path.realpath(os.path.dirname(place) or os.curdir), os.path.basename(place)
        if OPEN_FILES.fullmatch(folder):
            return os.path.join(folder, name)
        if not os.path.islink(place):
            return ""
        place = os.path.join(folder, os.readlink(place))
    return ""


@contextmanager
def _copied_into(path: Path) -> Iterator[Path]:
    """Yield a temporary path elsewhere; on a clean exit its bytes are written to the stream `path`."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f"stream{path.suffix}")
        with disk_faults_named(temporary):
            temporary.touch()
            yield temporary
        try:
            with temporary.open("rb") as content, os.fdopen(_open_stream(path), "wb") as stream:
                shutil.copyfileobj(content, stream)
        except OSError as error:
            raise ListenwellError(
                f"{path}: cannot be written to ({error.strerror}); give a file, or something that reads to the end."
            ) from error


def _open_stream(path: Path) -> int:
    """A descriptor that writes behind what is there. An open file of this process is the same one: its place in the
    file is shared, so that what the process prints later follows.
    """
    own = re.fullmatch(rf"(?:/dev|/proc/{os.getpid()})/fd/(\d+)", _open_file(path))
    if own is None:
        return os.open(path, os.O_WRONLY | os.O_APPEND)
    sys.stdout.flush()
    return os.dup(int(own[1]))


def _followed(path: Path) -> Path:
    """Where a symbolic link, or a path without a name such as "..", leads; `path` itself where it is none."""
    return Path(os.path.realpath(path)) if os.path.islink(path) or path.name in ("", "..") else path


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


def _mode_of(path: Path, like: Path) -> int:
    """The permissions of `path`; where it is missing, those of `like`, which the umask gave."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return stat.S_IMODE(os.stat(like).st_mode)


def _set_mode(path: Path, mode: int) -> None:
    """Disks without permissions refuse to set any, also those that all their files have."""
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)


def is_left_over(path: Path, name: str = "") -> bool:
    """True where only something that is being written, or that a killed writer left, is called so.

    name: of the file or folder to be; "" is any. A folder moved aside that is the only copy of its content is none.
    """
    found = LEFT_OVER.fullmatch(path.name)
    if found is None or (name and found[2] != _hash_name(name)):
        return False
    return found[1] == "tmp" or (path.is_dir() and all((path.parent / each.name).exists() for each in path.iterdir()))


def remove_left_over(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in `folder`, of the file or folder `name` alone where one is given.

    Call it only where nobody else writes these.
    """
    for path in folder.glob(f"{OWN}*"):
        if is_left_over(path, name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all it holds; it may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        if number in UNUSABLE and not _names_place(error, path):
            raise
        if sentence := describe_fault(path, number):
            raise ListenwellError(sentence) from error
        raise


def describe_fault(path: Path, number: int) -> str:
    """The sentence about a write to `path` that the system answered with this number; "" for others."""
    if number in FULL:
        return (
            f"{path}: the disk is full; nothing was written under this name. Free some space and run the command again."
        )
    if number in FORBIDDEN:
        return f"{path}: cannot be written ({os.strerror(number)}); choose a folder you may write to."
    if number in FAILING:
        return (
            f"{path}: the disk failed ({os.strerror(number)}); nothing was written under this name. Check the disk, or "
            "choose a folder on another one, and run the command again."
        )
    return f"{path}: {UNUSABLE[number]}" if number in UNUSABLE else ""


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


def _names_place(error: Exception, path: Path) -> bool:
    """True for an error that names `path` or a folder around it, not what a writer does inside."""
    named = (getattr(error, name, None) for name in ("filename", "filename2"))
    texts = [os.fsdecode(each) for each in named if isinstance(each, str | bytes | os.PathLike)]
    return any(path.absolute().is_relative_to(Path(text).absolute()) for text in texts)


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
