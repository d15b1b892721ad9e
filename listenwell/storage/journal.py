"""Values kept as they are computed, so that work which was killed does not compute them again.

A journal is a file of JSON lines: whose they are, under which key, the value, their hash. It is written line by line,
each on the disk before the next, and goes when the work is done. A line that a kill cut or a disk changed is passed
over. Numbers come back to the bit, because JSON's decimals of a float64 do.

Lines of several runs may stand in any order and more than once: values that form a sequence say which place they have
in it. Where one process at a time is to write a journal, it holds a lock beside it (flock, which ends with its process,
however that ends).
"""

import json
import os
import socket
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import companion, disk_faults_named, make_folder
from listenwell.storage.load_or_make import has_own_hash, with_own_hash


class HeldError(ListenwellError):
    """Another process writes the journal; `holder` tells which."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path}: another process writes it ({holder}); wait for it, or stop it.")
        self.holder = holder


class Journal:
    """The file at `path`. owner: what values depend on besides their keys; another owner's lines are passed over.

    is_alone: no other process may hold the same journal so until `remove`, or until this process or object ends; raises
    HeldError when one does. Several objects of one process may.
    """

    def __init__(self, path: Path, owner: str, *, is_alone: bool = False) -> None:
        self.path, self.owner = path, owner
        make_folder(path.parent)
        self._give_back = weakref.finalize(self, _unlock, _lock(path)) if is_alone else None
        self._known: dict[str, list[Any]] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            with suppress(ValueError, RecursionError, TypeError, KeyError):  # no record: the line was cut
                record = json.loads(line)
                if has_own_hash(record) and record["owner"] == owner:
                    self._known.setdefault(record["key"], []).append(record["value"])

    def keys(self) -> list[str]:
        """Keys of earlier runs."""
        return list(self._known)

    def known(self, key: str) -> list[Any]:
        """The values that earlier runs kept under this key, in their order."""
        return self._known.get(key, [])

    def keep(self, key: str, value: Any) -> None:
        """Put one more value, of JSON's kinds, on the disk. Raises ListenwellError when the disk is full."""
        line = json.dumps(with_own_hash({"owner": self.owner, "key": key, "value": value}), allow_nan=False)
        with disk_faults_named(self.path), self.path.open("a", encoding="utf-8") as file:
            # a line cut by a kill must not swallow this one
            file.write(f"\n{line}\n" if file.tell() else f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file: the work is done."""
        self.path.unlink(missing_ok=True)
        if self._give_back is not None:
            self._give_back()


def _lock(path: Path) -> FileLock:
    """Hold the lock of the journal at `path` and write into it who does. Raises HeldError when another process does."""
    place = companion(path, ".lock")
    lock = FileLock(place, thread_local=False, is_singleton=True)
    try:
        with disk_faults_named(path):
            lock.acquire(timeout=0)
    except Timeout as error:
        holder = ""
        with suppress(OSError, ValueError):
            holder = place.read_text(encoding="utf-8")
        raise HeldError(path, holder or f"it holds {place.name}") from error
    with suppress(OSError):  # a full disk refuses the journal too, and that says so
        place.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    return lock


def _unlock(lock: FileLock) -> None:
    if lock.lock_counter <= 1:  # first the name, so that whoever comes now makes a file of its own
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
