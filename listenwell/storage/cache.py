"""Where downloaded weights and recordings live: one folder per user, shared by all studies."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import companion, disk_faults_named, make_folder, remove_left_over

VARIABLE = "LISTENWELL_CACHE"


def cache_root() -> Path:
    """Return the folder named by LISTENWELL_CACHE, else ~/.cache/listenwell; it may not exist yet.

    Where no home folder is known nothing can be made in it, so that only what must write there fails.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(os.path.abspath(chosen))
    home = os.path.expanduser("~")  # "~" itself for a user the system does not know
    return Path(os.devnull if home == "~" else os.path.abspath(home), ".cache", "listenwell")


@contextmanager
def cache_faults_named(path: Path) -> Iterator[None]:
    """Say of a `path` in the cache that cannot be written which variable names another one; other paths pass."""
    try:
        yield
    except (OSError, ListenwellError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(error, Timeout) or not isinstance(cause, OSError) or not path.is_relative_to(cache_root()):
            raise
        raise ListenwellError(
            f"{path}: the cache of weights and recordings cannot be written ({cause.strerror}); set {VARIABLE} to a "
            "folder you may write to."
        ) from error


@contextmanager
def one_maker(path: Path) -> Iterator[None]:
    """Make `path` alone: whoever else wants to waits here, and looks again. What makers that were killed left goes.

    The lock file beside it goes once `path` is there, which nobody makes again.
    """
    lock_path = companion(path, ".lock")
    lock = FileLock(lock_path)
    try:
        with cache_faults_named(path), disk_faults_named(lock_path):
            make_folder(path.parent)
            lock.acquire(timeout=0)
    except Timeout:
        print(f"listenwell: another process makes {path}; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        remove_left_over(path.parent, path.name)
        yield
    finally:
        if path.exists():
            lock_path.unlink(missing_ok=True)
        lock.release()
