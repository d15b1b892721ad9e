"""Where each artefact of a run lies, what made it, and who works in it.

config.yaml            the resolved config
provenance.json        version, commit, machine, libraries
allocation.json        which groups train, choose (dev) and test
ledger.json            the version of the ledger, the folder of fits; another folder's where the config names a ledger
used_fits.json         which fits the run asked for, by config
run.lock, holder.json  who works in this folder now
fits/IDENTITY/         one trained adapter: adapter/ (PEFT format), history.json, plans.jsonl, ...
stacks/IDENTITY/       fits that train together, while they do: members.json, checkpoints/
tracking/              files of live trackers, where the config names one that writes some
tasks/IDENTITY.json    what Ray's workers are doing, while they do it
scores/NAME.csv        one score table per method and set of clips; SET.json tells what they were made from
thresholds/METHOD.json a threshold, and the hash of the dev scores that chose it
seal.jsonl             who committed to which thresholds and who looked at the test, a hash chain
leaks.json             what the leak gate compared and found
leaks-folds.json       the same between the folds of leave-one-speaker-out
search.json, loso.json the same as in results.json, where these were run alone
evidence.json          the evidence of results.json, and what it was made from
errors/NN.wav, NN.png  the worst errors of the tests as they were scored; errors.json tells which is which
quarantine/NAME.csv    clips of the set that could not be read, and why
results.json           every number
report.html, report.md the same numbers to read; tables/conditions.csv: every measure under every condition

One process works in a run folder at a time. The lock is the operating system's (flock on run.lock), so the folder of a
killed study is free at once; holder.json only names host, process and start. run.lock and used_fits.json come first:
where neither is and something stands under a name that a run writes, the folder is somebody else's.
"""

import functools
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
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
from listenwell.storage.load_or_make import hash_content, read_object, without_own_hash

Work = TypeVar("Work", bound=Callable[..., Any])
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


class RunFiles(RunFile):
    """The paths of several files of one pattern, each by its name or number."""

    def __get__(self, run: "RunFolder", owner: type | None = None) -> Callable[[str | int], Path]:  # type: ignore[override]
        """What gives the path in this run."""
        return lambda name: run.root / self.name.format(name)


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
    tracking = RunFile("tracking")
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
    threshold = RunFiles("thresholds/{}.json")
    scores = RunFiles("scores/{}.csv")
    score_identity = RunFiles("scores/{}.json")
    error_sound = RunFiles("errors/{:02d}.wav")
    error_picture = RunFiles("errors/{:02d}.png")
    quarantine = RunFiles("quarantine/{}.csv")

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


def identity(**parts: Any) -> str:
    """Return the sha256 of `parts` as canonical JSON: equal parts, equal identity, on every machine."""
    return hash_content(parts)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object this project wrote. Raises ListenwellError when it is missing or broken."""
    if not path.exists():
        raise ListenwellError(f"{path}: is not there; give the folder of a finished run, or run the study to its end.")
    return read_object(path, ListenwellError)


def read_kept_results(run: RunFolder) -> dict[str, Any]:
    """What results.json holds. Raises ListenwellError when it is missing, broken or was changed."""
    return without_own_hash(run.results, read_json(run.results), ListenwellError)


def provenance() -> dict[str, Any]:
    """Return package version, git commit (None outside a checkout), Python, machine and library versions."""
    libraries = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    cpus = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:(.*)", cpus.read_text(encoding="utf-8"), re.MULTILINE) if cpus.is_file() else []
    return {
        "listenwell": listenwell.__version__,
        "commit": git_commit(Path(listenwell.__file__).parent),
        "python": platform.python_version(),
        "machine": {
            "system": platform.platform(),
            "processor": names[0].strip() if names else platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "libraries": libraries,
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


# Who works in it


def alone_in_run(work: Work) -> Work:
    """Decorate work(config, ...) so that it holds the lock of config.output."""

    @functools.wraps(work)
    def locked(config: Any, *args: Any, **kwargs: Any) -> Any:
        with hold_run(RunFolder(config.output)):
            return work(config, *args, **kwargs)

    return cast(Work, locked)


@contextmanager
def hold_run(run: RunFolder) -> Iterator[None]:
    """Hold the run folder within the block.

    Raises ListenwellError, naming the holder, when it is held, and ConfigError when it is somebody else's.
    """
    require_own(run)
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(run.lock))
        except Timeout as error:
            who = "another process"
            if holder := holder_of(run):
                who = f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
            raise ListenwellError(
                f"{run.root}: {who} works in this folder; wait for it, stop it, or give another folder with output=..."
            ) from error
        if not run.used_fits.exists():
            # some disks keep no lock file once it is free
            write_json(run.used_fits, {})
        for path in left_overs(run):
            remove(path)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(run.holder, {"host": socket.gethostname(), "pid": os.getpid(), "since": since})
        held.callback(run.holder.unlink, missing_ok=True)
        yield


def require_own(run: RunFolder) -> None:
    """Raise ConfigError where a run would write over what none has written."""
    if is_run(run):
        return
    for path in written_by_a_run(run):
        if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(f"{path}: is there already and no run of listenwell wrote it; give another folder.")


def is_run(run: RunFolder) -> bool:
    """True for the folder of a run."""
    return run.lock.is_file() or run.used_fits.is_file()


def written_by_a_run(run: RunFolder) -> list[Path]:
    """The files and folders that commands write into a run folder, in the order of their names."""
    names = {file.name.partition("/")[0] for file in vars(RunFolder).values() if isinstance(file, RunFile)}
    return [run.root / name for name in sorted({*names, "fits", "ledger.json", "locks", *REPORT})]


def left_overs(run: RunFolder) -> list[Path]:
    """What killed writers left of the run's own files, but for those of fits, which others may train.

    Other folders may lie in a run's, with writers of their own.
    """
    left: list[Path] = []
    for place in written_by_a_run(run):
        left += [path for path in run.root.glob(f"{OWN}*") if is_left_over(path, place.name)]
        if place.is_dir() and not place.is_symlink() and place.name != run.fits.name:
            left += [path for path in place.rglob(f"{OWN}*") if is_left_over(path)]
    return sorted(left)


def holder_of(run: RunFolder) -> dict[str, Any] | None:
    """Who says to work in the run folder: host, pid, since; None when nobody does, or nobody can read it."""
    try:
        holder = read_json(run.holder)
    except ListenwellError:
        return None
    return holder if holder.keys() >= {"host", "pid", "since"} else None


def is_held(run: RunFolder) -> bool:
    """True when a process works in the run folder."""
    if not run.lock.is_file():
        return False
    try:
        with hold_lock(run.lock):
            return False
    except Timeout:
        return True
