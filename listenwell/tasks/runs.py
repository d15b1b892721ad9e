"""Runs side by side: what state they are in, what they found, and what of them nobody needs any more.

A run is a folder with a config.yaml that a study, fit, search or loso command wrote. What is cleaned: fits that the
finished study's config did not ask for and no other run shown here does, begun stacks of a finished study, and
temporary files a kill left. A run somebody works in is left alone, and so is a ledger that is no run's own folder, a
folder that is no run, and a fit or stack beside or in which somebody put other files.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from listenwell.config import load_config, read_kept_config
from listenwell.errors import ConfigError, ListenwellError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.ledger import FAILED, HISTORY, SPEC, requested_fits
from listenwell.storage.atomic_files import OWN, remove
from listenwell.storage.run_folder import RunFolder, hold_run, holder_of, is_held, is_run, left_overs, read_kept_results
from listenwell.train.fit_log import LOGS

State = Literal["running", "finished", "unfinished"]
IDENTITY = re.compile(r"[0-9a-f]{16}")
"""The name of a fit's folder, or a stack's."""
OF_TRAINING = (
    *(SPEC, HISTORY, FAILED, "dropped-*.json", *LOGS, "members.json"),
    *("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/listenwell.json"),
    *(f"scores/{name}.{kind}" for name in ("dev", "held_out", "search-dev") for kind in ("csv", "json")),
    *("checkpoints/*/state.json", "checkpoints/*/tensors.safetensors", f"{OWN}*"),
)
"""What training and the scoring of its fits leave there, by the end of the path."""
MAIN = {"method": FINE_TUNED, "threshold": "calibrated"}


@dataclass(frozen=True, slots=True)
class Figure:
    """Balanced accuracy of the delivered detector at its calibrated threshold on one test set and condition."""

    test_set: str
    condition: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RunState:
    """One run. holder: who works in it; changed: when config or results were last written."""

    folder: Path
    state: State
    holder: str
    changed: datetime
    n_done: int
    n_dropped: int
    n_failed: int
    n_wanted: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Waste:
    """A file or folder nobody needs, why, and its size in bytes."""

    path: Path
    reason: str
    n_bytes: int


def list_runs(folder: Path) -> list[RunState]:
    """The run `folder` is, or the runs below it at any depth. Raises ListenwellError when there is none."""
    return [_state_of(run) for run in find_runs(folder)]


def find_runs(folder: Path) -> list[RunFolder]:
    """Every run at or below `folder`, sorted by path."""
    configs = sorted({path for path in [folder / "config.yaml", *folder.rglob("config.yaml")] if path.is_file()})
    # a config.yaml may be another program's
    runs = [RunFolder(path.parent, load_config(path).ledger) for path in configs if _may_be_a_run(path)]
    if not runs:
        raise ListenwellError(f"{folder}: holds no run (no config.yaml); give the folder that 'output' names.")
    return runs


def _may_be_a_run(config: Path) -> bool:
    try:
        load_config(config)
    except ConfigError:
        return is_run(RunFolder(config.parent))
    return True


def _state_of(run: RunFolder) -> RunState:
    holder, results = holder_of(run), _results_of(run)
    running = is_held(run)
    wanted = requested_fits(run)
    latest = max(path.stat().st_mtime for path in (run.config, run.results) if path.is_file())
    return RunState(
        folder=run.root,
        state="running" if running else "finished" if results is not None else "unfinished",
        holder=f"process {holder['pid']} on {holder['host']}" if running and holder is not None else "",
        changed=datetime.fromtimestamp(latest, UTC),
        n_done=sum((run.fit(each) / SPEC).is_file() for each in wanted),
        n_dropped=sum(_was_dropped(run.fit(each)) for each in wanted),
        n_failed=sum((run.fit(each) / FAILED).is_file() for each in wanted),
        n_wanted=len(wanted),
        figures=() if results is None else _figures_of(run, results),
    )


def _was_dropped(fit: Path) -> bool:
    return not (fit / SPEC).is_file() and any(fit.glob("dropped-*.json"))


def _results_of(run: RunFolder) -> dict[str, Any] | None:
    """The results, when they were made from the config that lies there now."""
    if not run.results.is_file():
        return None
    results = read_kept_results(run)
    return results if read_kept_config(results, run.root) == load_config(run.config) else None


def _figures_of(run: RunFolder, results: dict[str, Any]) -> tuple[Figure, ...]:
    """Raises ListenwellError for results that were changed."""
    try:
        return tuple(_figures(results))
    except (KeyError, TypeError, StopIteration, RuntimeError) as error:
        raise ListenwellError(f"{run.results}: is broken ({error!r}); delete it and run the study again.") from error


def _figures(results: dict[str, Any]) -> Iterable[Figure]:
    for row in results["rows"]:
        if all(row[key] == value for key, value in MAIN.items()) and row["condition"] in ("clean", "noisy"):
            metric = next(each for each in row["metrics"] if each["name"] == "balanced_accuracy")
            yield Figure(row["test_set"], row["condition"], metric["value"], metric["low"], metric["high"])


def find_waste(folder: Path) -> list[Waste]:
    """What can be removed at or below `folder`."""
    runs = find_runs(folder)
    needed = {run.fit(each).resolve() for run in runs for each in requested_fits(run)}
    unfinished = {run.fits.resolve() for run in runs if is_held(run) or _results_of(run) is None}
    held = {run.fits.resolve() for run in runs if is_held(run)}
    waste: list[Waste] = []
    for run in runs:
        if is_held(run) or not is_run(run):
            continue
        are_trained = (run.root / "fits").resolve() in held
        waste += [_waste(path, "left by a kill") for path in left_overs(run, fits=not are_trained)]
        if (run.root / "fits").resolve() in unfinished or _results_of(run) is None:
            continue
        waste += [_waste(path, "a stack of a finished study") for path in _trained(run.stacks)]
        fits = [path for path in _trained(run.root / "fits") if path.resolve() not in needed]
        waste += [_waste(path, "a fit no config here asks for") for path in fits]
    return [each for each in waste if not any(other.path in each.path.parents for other in waste)]


def _trained(folder: Path) -> list[Path]:
    """The fits or stacks in `folder` that hold nothing else."""
    named = [path for path in sorted(folder.glob("*")) if IDENTITY.fullmatch(path.name) and not path.is_symlink()]
    return [
        path for path in named if all(each.is_dir() or any(map(each.match, OF_TRAINING)) for each in path.rglob("*"))
    ]


def _waste(path: Path, reason: str) -> Waste:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return Waste(path, reason, sum(each.stat().st_size for each in files))


def remove_waste(folder: Path, waste: Sequence[Waste]) -> None:
    """Remove what find_waste found; every run is held meanwhile, so nobody begins to use it."""
    for run in find_runs(folder):
        own = [each for each in waste if run.root in each.path.parents and each.path.exists()]
        if own:
            with hold_run(run):
                # a study may have come to need some of it since
                needed = {each.fit(fit).resolve() for each in find_runs(folder) for fit in requested_fits(each)}
                for each in own:
                    if each.path.resolve() not in needed:
                        remove(each.path)
