"""One process works in a run folder at a time; a second one is told who does.

The lock is the operating system's (flock on run.lock): it ends with its process, however that ends, so the folder of a
killed study is free at once. holder.json names host, process and start, and holds a beat that grows every BEAT_S
seconds. It serves where machines share a file system whose locks do not reach from one to the other: a holder on
another host is alive as long as its beat grows. The beat is a count, so no clock is compared.

Every command that works in a run folder holds it, so here is said whose folder it is: run.lock and used_fits.json come
before all else. Where neither is and something stands under a name that a run writes, it is somebody else's.
"""

import functools
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from filelock import Timeout

from listenwell.errors import ConfigError, ListenwellError
from listenwell.storage.atomic_files import OWN, hold_lock, is_left_over, remove, write_json
from listenwell.storage.run_folder import RunFile, RunFolder, read_json

Work = TypeVar("Work", bound=Callable[..., Any])
BEAT_S = 5.0
BEATS_TO_WAIT = 3
REPORT = ("report.html", "report.md", "MODEL_CARD.md", "tables")
"""What listenwell.report.write puts into a run."""


def alone_in_run(work: Work) -> Work:
    """Decorate work(config, ...) so that it holds the lock of config.output."""

    @functools.wraps(work)
    def locked(config: Any, *args: Any, **kwargs: Any) -> Any:
        with hold_run(RunFolder(config.output)):
            return work(config, *args, **kwargs)

    return cast(Work, locked)


@contextmanager
def hold_run(run: RunFolder, beat_s: float = BEAT_S) -> Iterator[None]:
    """Hold the run folder within the block.

    Raises ListenwellError, naming the holder, when it is held, and ConfigError when it is somebody else's.
    """
    require_own(run)
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(run.lock))
        except Timeout as error:
            raise _refusal(run, holder_of(run)) from error
        _expect_no_life_elsewhere(run, beat_s)
        if not run.used_fits.exists():
            # some disks keep no lock file once it is free
            write_json(run.used_fits, {})
        # fits may be another's ledger, where somebody else writes
        for path in left_overs(run, fits=False):
            remove(path)
        with _beating(run, beat_s):
            yield


def require_own(run: RunFolder) -> None:
    """Raise ConfigError where a run would write over what none has written."""
    if is_run(run):
        return
    for path in written_by_a_run(run):
        if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(
                f"{path}: is there already and no run of listenwell wrote it; give the run another folder, or move "
                "this away."
            )


def is_run(run: RunFolder) -> bool:
    """True for the folder of a run; that of scores which an older version made is known by its provenance.json."""
    if run.lock.is_file() or run.used_fits.is_file():
        return True
    try:
        return "listenwell" in read_json(run.provenance)
    except ListenwellError:
        return False


def written_by_a_run(run: RunFolder) -> list[Path]:
    """The files and folders that commands write into a run folder, in the order of their names."""
    alone = RunFolder(run.root)
    own = [getattr(alone, name) for name, value in vars(RunFolder).items() if isinstance(value, property | RunFile)]
    inner = (alone.scores("x"), alone.threshold("x"), alone.quarantine("x"), alone.fit_lock("x"), *own)
    names = {path.relative_to(run.root).parts[0] for path in inner}
    return [run.root / name for name in sorted({*names, *REPORT})]


def left_overs(run: RunFolder, *, fits: bool) -> list[Path]:
    """What killed writers left of the run's own files; fits: below the folder of fits too, which others may train.

    Other folders may lie in a run's, with writers of their own.
    """
    found: list[Path] = []
    for own in written_by_a_run(run):
        found += [path for path in run.root.glob(f"{OWN}*") if is_left_over(path, own.name)]
        if own.is_dir() and not own.is_symlink() and (fits or own.name != run.fits.name):
            found += [path for path in own.rglob(f"{OWN}*") if is_left_over(path)]
    return sorted(found)


def holder_of(run: RunFolder) -> dict[str, Any] | None:
    """Who says to work in the run folder: host, pid, since, beat; None when nobody does, or nobody can read it."""
    try:
        holder = read_json(run.holder)
    except ListenwellError:
        return None
    return holder if holder.keys() >= {"host", "pid", "since", "beat"} else None


def is_held(run: RunFolder) -> bool:
    """True when a process of this machine, or of one whose locks reach here, works in the run folder."""
    if not run.lock.is_file():
        return False
    try:
        with hold_lock(run.lock):
            return False
    except Timeout:
        return True


def _refusal(run: RunFolder, holder: dict[str, Any] | None) -> ListenwellError:
    who = f"process {holder['pid']} on {holder['host']} (since {holder['since']})" if holder else "another process"
    return ListenwellError(
        f"{run.root}: {who} works in this folder; wait for it, stop it, or give another folder with output=..."
    )


def _expect_no_life_elsewhere(run: RunFolder, beat_s: float) -> None:
    """A holder on this host is dead, since its lock is free; one on another host is, when its beat stands still."""
    before = holder_of(run)
    if before is None or before["host"] == socket.gethostname():
        return
    time.sleep(BEATS_TO_WAIT * beat_s)
    after = holder_of(run)
    if after is not None and after["beat"] != before["beat"]:
        raise _refusal(run, after)


@contextmanager
def _beating(run: RunFolder, beat_s: float) -> Iterator[None]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    own = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
    over = threading.Event()

    def beat() -> None:
        for count in itertools.count(1):
            if over.wait(beat_s) or not run.root.is_dir():
                return
            # a disk that refuses the beat refuses the work's own files too, and they say so
            with suppress(ListenwellError):
                write_json(run.holder, own | {"beat": count})

    write_json(run.holder, own | {"beat": 0})
    thread = threading.Thread(target=beat, name="run lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        run.holder.unlink(missing_ok=True)
