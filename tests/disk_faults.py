"""A disk that fails: the n-th thing this process asks of it below a folder is refused by the system.

What is counted: a file or folder is made, a file is opened for writing, flushed to the disk, renamed or linked.
Opening and renaming are refused through Python's audit events (PEP 578), which every library that goes through the
interpreter raises; flushing through os.fsync. The hook of a process cannot be taken off again, so it is armed in a
process of its own.
"""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RENAMES = ("os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate")


@dataclass
class FailingDisk:
    """Below `root`, request number `fails_at` (from 1) and all after it fail with `number`; 0: none does.

    lasts: how many requests fail, None for all from there on, as on a disk that stays full.
    """

    root: Path
    fails_at: int
    number: int = errno.ENOSPC
    lasts: int | None = None
    n_requests: int = 0

    def arm(self) -> None:
        """Watch this process from here on, for good."""
        fsync = os.fsync
        sys.addaudithook(self._on_event)

        def watched(descriptor: int) -> None:
            self._ask(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = watched

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES and not isinstance(path, int):
                self._ask(path)
        elif event in RENAMES:
            self._ask(arguments[0])

    def _ask(self, path: Any) -> None:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not text.startswith(f"{self.root}{os.sep}"):
            return
        self.n_requests += 1
        last = self.fails_at + (self.lasts or sys.maxsize)
        if self.fails_at and self.fails_at <= self.n_requests < last:
            raise OSError(self.number, os.strerror(self.number), text)
