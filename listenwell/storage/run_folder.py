"""Where each artefact of a run lies, what made it, and who works in it.

config.yaml            the resolved config
provenance.json        version, commit, machine, libraries
allocation.json        which groups train, choose (dev) and test
ledger.json            the version of the ledger, the folder of fits; another folder's where the config names a ledger
used_fits.json         which fits the run asked for, by config
run.lock, holder.json  who works in this folder now
fits/IDENTITY/         one trained adapter: adapter/ (PEFT format), history.json, plans.jsonl, ...
stacks/IDENTITY/       fits that train together, while they do: members.json, checkpoints/
tasks/IDENTITY.json    what Ray's workers are doing, while they do it
scores/NAME.csv        one score table per method and set of clips; SET.json tells what they were made from
scores/SET.journal     scores of the batches done so far, while the set is scored; a killed run goes on from them
thresholds/METHOD.json a threshold, and the hash of the dev scores that chose it
seal.jsonl             who committed to which thresholds and who looked at the test, a hash chain
leaks.json             what the leak gate compared and found
leaks-folds.json       the same between the folds of leave-one-speaker-out
search.json, loso.json the same as in results.json, where these were run alone
evidence.json          the evidence of results.json, and what it was made from
errors/NN.wav, NN.png  the worst errors of the tests as they were scored; errors.json tells which is which
quarantine/NAME.csv    clips of the set that could not be read, and why
results.json           every number
report.html, report.md the same numbers to read

One process works in a run folder at a time; a second one is told who does. The lock is the operating system's (flock
on run.lock), so the folder of a killed study is free at once. holder.json names host, process and start, and a beat
that grows every BEAT_S seconds: where machines share a file system whose locks do not reach from one to the other, a
holder on another host is alive as long as its beat grows. The beat is a count, so no clock is compared.

Every command that works in a run folder holds it, so here is said whose folder it is: run.lock and used_fits.json come
before all else. Where neither is and something stands under a name that a run writes, it is somebody else's.
"""

import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from filelock import Timeout

import listenwell
from listenwell.errors import ConfigError, ListenwellError
from listenwell.storage.atomic_files import OWN, hold_lock, is_left_over, remove, write_json
from listenwell.storage.load_or_make import without_own_hash

Work = TypeVar("Work", bound=Callable[..., Any])
BEAT_S = 5.0
BEATS_TO_WAIT = 3
REPORT = ("report.html", "report.md", "MODEL_CARD.md", "tables")
"""What listenwell.report.write puts into a run."""
LIBRARIES = ("numpy", "scipy", "av", "soundfile", "soxr", "torch", "transformers", "safetensors", "gguf", "peft")


class RunFile:
    """The path of a name below the root of a RunFolder; what lies there: the table above."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunFolder", owner: type | None = None) -> Path:
        """The path in this run."""
        return run.root / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths below `root`; nothing is made here, writers make the folders they need.

    ledger: the folder whose fits are used and added to, where several runs share one; None is the run's own.
    """

    root: Path
    ledger: Path | None = None

    config = RunFile("config.yaml")
    provenance = RunFile("provenance.json")
    allocation = RunFile("allocation.json")
    used_fits = RunFile("used_fits.json")
    lock = RunFile("run.lock")
    holder = RunFile("holder.json")
    stacks = RunFile("stacks")
    tasks = RunFile("tasks")
    seal = RunFile("seal.jsonl")
    leaks = RunFile("leaks.json")
    fold_leaks = RunFile("leaks-folds.json")
    search = RunFile("search.json")
    leave_one_out = RunFile("loso.json")
    evidence = RunFile("evidence.json")
    errors = RunFile("errors")
    error_index = RunFile("errors/errors.json")
    results = RunFile("results.json")

    @property
    def ledger_version(self) -> Path:
        """The version of the ledger (JSON)."""
        return (self.ledger or self.root) / "ledger.json"

    @property
    def fits(self) -> Path:
        """The folder of the ledger's fits."""
        return (self.ledger or self.root) / "fits"

    def fit(self, fit_identity: str) -> Path:
        """The folder of one fit; sixteen digits of its identity name it."""
        return self.fits / fit_identity[:16]

    def fit_lock(self, fit_identity: str) -> Path:
        """Locked while somebody trains this fit."""
        return (self.ledger or self.root) / "locks" / f"{fit_identity[:16]}.lock"

    def threshold(self, method: str) -> Path:
        """The threshold of one method (JSON)."""
        return self.root / "thresholds" / f"{method}.json"

    def scores(self, name: str) -> Path:
        """The score table of one set of clips (CSV)."""
        return self.root / "scores" / f"{name}.csv"

    def score_identity(self, name: str) -> Path:
        """What the score table was made from (JSON)."""
        return self.root / "scores" / f"{name}.json"

    def score_journal(self, name: str) -> Path:
        """The scores found so far of one set of clips (JSON lines)."""
        return self.root / "scores" / f"{name}.journal"

    def error_sound(self, number: int) -> Path:
        """One sound that was decided wrongly (WAV)."""
        return self.errors / f"{number:02d}.wav"

    def error_picture(self, number: int) -> Path:
        """Its spectrogram (PNG)."""
        return self.errors / f"{number:02d}.png"

    def quarantine(self, name: str) -> Path:
        """The clips of one set that could not be read (CSV)."""
        return self.root / "quarantine" / f"{name}.csv"


def identity(**parts: Any) -> str:
    """Return the sha256 of `parts` as canonical JSON: equal parts, equal identity, on every machine."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object this project wrote. Raises ListenwellError when it is missing or broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ListenwellError(
            f"{path}: is not there; give the folder of a run that 'listenwell study' made, or run the study to its end."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ListenwellError(
            f"{path}: cannot be read ({error}); delete its folder and run the study again."
        ) from error
    if not isinstance(content, dict):
        raise ListenwellError(f"{path}: holds no JSON object; delete its folder and run the study again.")
    return content


def read_kept_results(run: RunFolder) -> dict[str, Any]:
    """What results.json holds. Raises ListenwellError when it is missing, broken or was changed."""
    return without_own_hash(run.results, read_json(run.results), ListenwellError)


def provenance() -> dict[str, Any]:
    """Return package version, git commit (None outside a checkout), Python, machine and library versions."""
    return {
        "listenwell": listenwell.__version__,
        "commit": git_commit(Path(listenwell.__file__).parent),
        "python": platform.python_version(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
    }


def git_commit(folder: Path) -> str | None:
    """Return the commit whose tracked files `folder` holds, with "+changes" when some differ; None if there is none."""
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# Who works in it


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
