"""Write files so that a reader sees the old content or the new one, never half of it.

The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in one
rename; the folder is flushed too, so the name survives a power cut. On any failure, a full disk included, the
temporary file is removed and the old file is untouched.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from listenwell.errors import ListenwellError


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

    Raises ListenwellError when the disk is full or the folder cannot be written.
    """
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, otherwise it disappears."""
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _flush(file)
            os.chmod(temporary, 0o755)
            if path.exists():
                retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
                os.replace(path, retired / path.name)
                os.replace(temporary, path)
                shutil.rmtree(retired)
            else:
                os.replace(temporary, path)
            _flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn the operating system's disk errors into one sentence that names `path` and the next step."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ListenwellError(
                f"{path}: the disk is full; nothing was written under this name. "
                "Free some space and run the command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ListenwellError(
                f"{path}: cannot be written ({error.strerror}); choose a folder you may write to."
            ) from error
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
