"""A disk that is full, fails, is read-only or loses its power, at any moment: the next run ends as if nothing had
happened, and one that can still speak says what happened in one sentence.

Every moment is a process of its own. LISTENWELL_DISK_FAULTS sets how many moments, spread over the work: 3 by default,
60 in `make soak`, or "all" of them (some hours).
"""

import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_processes import SERVED
from made_sounds import make_study
from test_kills import results_of
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump

ASKED = os.environ.get("LISTENWELL_DISK_FAULTS", "3")
SETTINGS = (
    "train.epochs=1",
    "train.checkpoint_steps=2",
    "search.sampled.space={lora.rank: [1, 2]}",
    "search.sampled.trials=2",
    "evaluation.conditions=[clean]",
    "evaluation.baselines=[]",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RENAMES = ("os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 * (1000 if ASKED == "all" else 20 + int(ASKED)))]


@dataclass
class Disk:
    """Counts what is asked of the disk below `root`: making, opening for writing, flushing, renaming.

    Request number `at` (from 1) and all after it fail with `number`; or, where that is 0, the process dies at it and
    every byte of a file that was never flushed is lost. Seen through Python's audit events (PEP 578) and os.fsync.
    """

    root: Path
    at: int = sys.maxsize
    number: int = 0
    n_requests: int = 0
    kept_bytes: dict[int, int] = field(default_factory=dict)
    """By inode, the bytes of a file that a power cut leaves."""

    def arm(self) -> None:
        """Watch this process from here on, for good."""
        fsync = os.fsync
        for path in self._files():
            self._keep(os.open(path, os.O_RDONLY))
        sys.addaudithook(self._on_event)

        def watched(descriptor: int) -> None:
            self._ask(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)
            self._keep(os.dup(descriptor))

        os.fsync = watched

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in RENAMES or (event == "open" and arguments[2] & WRITES and not isinstance(arguments[0], int)):
            self._ask(arguments[0])

    def _ask(self, path: Any) -> None:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not text.startswith(f"{self.root}{os.sep}"):
            return
        self.n_requests += 1
        if self.n_requests >= self.at and self.number:
            raise OSError(self.number, os.strerror(self.number), text)
        if self.n_requests == self.at:
            for file in self._files():
                with contextlib.suppress(FileNotFoundError):  # another thread's, gone meanwhile
                    os.truncate(file, min(self.kept_bytes.get(file.stat().st_ino, 0), file.stat().st_size))
            os.kill(os.getpid(), signal.SIGKILL)

    def _keep(self, descriptor: int) -> None:
        """Its bytes stay; it is held open, so that no other file gets the inode of one that is gone."""
        self.kept_bytes[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def _files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


def in_child(action: Callable[[], Any]) -> Any:
    """What `action` answers in a process of its own, which takes its disk with it; None when that was killed."""
    here, there = SERVED.Pipe()
    child = SERVED.Process(target=_answer, args=(there, action))
    child.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        answer = None
    child.join()
    assert child.exitcode == (-signal.SIGKILL if answer is None else 0), f"the child ended with {child.exitcode}"
    return answer


def _answer(there: Connection, action: Callable[[], Any]) -> None:
    there.send(action())


def run_study_on(folder: Path, disk: Disk) -> dict[str, Any]:
    """The study's exit status on this disk, what it said, how often it asked the disk."""
    os.environ["LISTENWELL_CACHE"] = str(folder / "cache")
    disk.arm()
    done = CliRunner().invoke(app, ["study", str(folder / "study.yaml"), f"output={disk.root}"])
    is_ours = done.exception is None or isinstance(done.exception, SystemExit)
    said = done.output if is_ours else f"TRACEBACK {done.exception!r}"
    return {"status": done.exit_code, "said": said, "requests": disk.n_requests}


@dataclass(frozen=True)
class Study:
    """The folder of a study's config, what it finds undisturbed, and the moments at which its disk is to fail."""

    folder: Path
    expected: tuple[dict[str, Any], dict[str, bytes]]
    moments: list[int]
    n_requests: int

    def require_resumed(self, output: Path, moment: int) -> None:
        """The next run in `output`, undisturbed, ends as if nothing had happened."""
        again = in_child(partial(run_study_on, self.folder, Disk(output)))
        assert again["status"] == 0, (moment, again)
        assert results_of(output) == self.expected, moment
        assert nothing_half(output)
        shutil.rmtree(output)


def nothing_half(output: Path) -> bool:
    """True when no temporary file or folder was left, but for a replaced folder that could not be put back."""
    hidden = [path for path in output.rglob(".*") if path.suffix != ".lock"]
    return all(path.is_dir() and any(not (path.parent / e.name).exists() for e in path.iterdir()) for path in hidden)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("disk")
    (folder / "study.yaml").write_text(dump(make_study(folder, *SETTINGS)))
    # the second one: the first also fills the cache
    for name in ("first", "whole"):
        done = in_child(partial(run_study_on, folder, Disk(folder / name)))
        assert done["status"] == 0, done["said"]
    n = done["requests"]
    moments = sorted({int(moment) for moment in np.linspace(1, n, n if ASKED == "all" else int(ASKED)).round()})
    return Study(folder, results_of(folder / "whole"), moments, n)


def test_a_disk_that_refuses_any_request_stops_the_study_in_one_sentence_and_costs_no_result(study):
    for turn, moment in enumerate(study.moments):
        output = study.folder / f"fails-{moment}"
        disk = Disk(output, moment, (errno.ENOSPC, errno.EIO, errno.EROFS)[turn % 3])
        stopped = in_child(partial(run_study_on, study.folder, disk))
        assert stopped["status"] == 1, (moment, stopped)
        assert "listenwell: error: " in stopped["said"], (moment, stopped)
        assert str(output) in stopped["said"], (moment, stopped)
        assert not (output / "report.html").is_file() or moment == study.n_requests
        assert nothing_half(output)
        study.require_resumed(output, moment)


def test_a_power_cut_at_any_moment_costs_no_result(study):
    for moment in study.moments:
        output = study.folder / f"cut-{moment}"
        disk = Disk(output, moment)
        assert in_child(partial(run_study_on, study.folder, disk)) is None, "the power was not cut"
        study.require_resumed(output, moment)
