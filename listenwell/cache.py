"""Where downloaded weights and recordings live: one folder per user, shared by all studies."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from listenwell.atomic_files import companion, disk_faults_named, make_folder, remove_left_over


def cache_root() -> Path:
    """Return the folder named by LISTENWELL_CACHE, else ~/.cache/listenwell; it may not exist yet."""
    chosen = os.environ.get("LISTENWELL_CACHE")
    return Path(os.path.abspath(chosen)) if chosen else Path.home() / ".cache" / "listenwell"


@contextmanager
def one_maker(path: Path) -> Iterator[None]:
    """Make `path` alone: whoever else wants to waits here, and looks again. What makers that were killed left goes.

    The lock file beside it goes once `path` is there, which nobody makes again.
    """
    make_folder(path.parent)
    own = companion(path, ".lock")
    lock = FileLock(own)
    try:
        with disk_faults_named(own):
            lock.acquire(timeout=0)
    except Timeout:
        print(f"listenwell: another process makes {path}; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        remove_left_over(path.parent, path.name)
        yield
    finally:
        if path.exists():
            own.unlink(missing_ok=True)
        lock.release()
