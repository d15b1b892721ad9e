"""Disks that fail, lose their power or are full, for a process of its own: what arms one cannot be taken off again.

Three disks. FailingDisk refuses the n-th thing asked of it and all after it; PowerCut kills the process at the n-th and
takes what was not flushed; SmallDisk is a real file system of so many bytes. What is counted: a file or folder is made,
a file is opened for writing, flushed, renamed or linked. Opening and renaming are seen through Python's audit events
(PEP 578), which every library that goes through the interpreter raises; flushing through os.fsync.
"""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RENAMES = ("os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate")
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
"""CLONE_NEWUSER and CLONE_NEWNS of unshare(2)."""
REMOUNT = 32
"""MS_REMOUNT of mount(2)."""


@dataclass
class WatchedDisk:
    """Below `root`, requests are counted; a disk of this kind does what it is asked."""

    root: Path
    n_requests: int = 0

    def arm(self) -> None:
        """Watch this process from here on, for good."""
        fsync = os.fsync
        sys.addaudithook(self._on_event)

        def watched(descriptor: int) -> None:
            self._ask(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)
            self.on_flushed(descriptor)

        os.fsync = watched

    def on_request(self, path: str) -> None:
        """Called before every request."""

    def on_flushed(self, descriptor: int) -> None:
        """Called after a file or folder was flushed."""

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES and not isinstance(path, int):
                self._ask(path)
        elif event in RENAMES:
            self._ask(arguments[0])

    def _ask(self, path: Any) -> None:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if text.startswith(f"{self.root}{os.sep}"):
            self.n_requests += 1
            self.on_request(text)


@dataclass
class FailingDisk(WatchedDisk):
    """Request number `fails_at` (from 1) and all after it fail with `number`, as on a disk that stays full."""

    fails_at: int = 1
    number: int = errno.ENOSPC

    def on_request(self, path: str) -> None:
        """Refuse."""
        if self.n_requests >= self.fails_at:
            raise OSError(self.number, os.strerror(self.number), path)


@dataclass
class PowerCut(WatchedDisk):
    """At request number `cut_at` (from 1) the process dies, and every byte of a file that was never flushed is lost.

    Names are kept although their folder was not flushed, which is the worse case: a file of the right name, cut.
    """

    cut_at: int = 1
    kept_bytes: dict[int, int] = field(default_factory=dict)
    """By inode, the bytes of a file that a power cut leaves. Flushed files are held open, so that none gets the inode
    of one that is gone."""

    def arm(self) -> None:
        """What lies there before was flushed."""
        for path in self._files():
            self.on_flushed(os.open(path, os.O_RDONLY))
        super().arm()

    def on_request(self, path: str) -> None:
        """Cut the power, when it is time."""
        if self.n_requests == self.cut_at:
            for file in self._files():
                with contextlib.suppress(FileNotFoundError):  # another thread's, gone meanwhile
                    state = file.stat()
                    kept = self.kept_bytes[state.st_ino] if state.st_ino in self.kept_bytes else 0
                    os.truncate(file, min(kept, state.st_size))
            os.kill(os.getpid(), signal.SIGKILL)

    def on_flushed(self, descriptor: int) -> None:
        """Its bytes stay."""
        state = os.fstat(os.dup(descriptor))
        self.kept_bytes[state.st_ino] = state.st_size

    def _files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


@dataclass
class SmallDisk:
    """A file system of so many bytes at `root`, seen by the process that arms it alone (tmpfs in a namespace)."""

    root: Path
    n_bytes: int

    def arm(self) -> None:
        """Mount it. Raises PermissionError where a process may not have a namespace of its own."""
        own = {"uid_map": os.getuid(), "gid_map": os.getgid()}
        _call("unshare", NEW_USER | NEW_MOUNTS)
        Path("/proc/self/setgroups").write_text("deny")
        for name, number in own.items():
            Path(f"/proc/self/{name}").write_text(f"0 {number} 1")
        self.root.mkdir(parents=True, exist_ok=True)
        self._mount(0)

    def grow(self, n_bytes: int) -> None:
        """Somebody freed some space."""
        self.n_bytes = n_bytes
        self._mount(REMOUNT)

    def _mount(self, flags: int) -> None:
        _call("mount", b"tmpfs", os.fsencode(self.root), b"tmpfs", flags, f"size={self.n_bytes}".encode())


def _call(name: str, *arguments: Any) -> None:
    """Call a function of libc. Raises OSError with what it answers."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        if name == "unshare" and number == errno.EINVAL:
            raise PermissionError(number, f"{name}: some library has threads running in this process")
        raise OSError(number, f"{name}: {os.strerror(number)}")


def in_child(action: Callable[[], Any]) -> Any:
    """What `action` answers in a process of its own, which takes its disk with it; None when that was killed."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=lambda: there.send(action()))
    child.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        answer = None
    child.join()
    assert child.exitcode == (-signal.SIGKILL if answer is None else 0), f"the child ended with {child.exitcode}"
    return answer
