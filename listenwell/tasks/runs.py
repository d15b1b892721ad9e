"""Runs that were made before: opened by their folder, listed side by side, cleaned, shown in TensorBoard.

A run is a folder with a config.yaml that a study, train, search or cross-validate command wrote. What is cleaned: fits
that the finished study's config did not ask for and no other run shown here does, begun stacks of a finished study, and
temporary files a kill left. A run somebody works in is left alone, and so is a ledger that is no run's own folder, a
folder that is no run, and a fit or stack beside or in which somebody put other files.

TensorBoard gets a copy of metrics.jsonl, which stays the record: one folder per fit under its identity, written by its
own writer (the optional extra `tracking`). Steps count on the axis of optimiser steps, epochs on that of epochs.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from listenwell.config import Config, load_config, read_kept_config
from listenwell.data.backgrounds import STORED
from listenwell.data.clip import clip_hashes
from listenwell.errors import ConfigError, ListenwellError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.ledger import FAILED, HISTORY, SPEC, requested_fits, require_adapter, require_log
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import read_splits
from listenwell.splits.divide import DEV, TRAIN, Splits, allocation
from listenwell.storage.atomic_files import OWN, atomic_folder, remove
from listenwell.storage.destination import destinations
from listenwell.storage.load_or_make import MADE_FROM, read_checksummed
from listenwell.storage.run_folder import RunFolder, hold_run, holder_of, is_held, is_run, left_overs, read_kept_results
from listenwell.train.fit_log import LOGS, METRICS

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
COUNTERS = ("step", "epoch")
"""Of the lines of metrics.jsonl; the others are measures."""


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
    wanted = [run.fit(fit) for fit in requested_fits(run)]
    latest = max(path.stat().st_mtime for path in (run.config, run.results) if path.is_file())
    return RunState(
        folder=run.root,
        state="running" if running else "finished" if results is not None else "unfinished",
        holder=f"process {holder['pid']} on {holder['host']}" if running and holder is not None else "",
        changed=datetime.fromtimestamp(latest, UTC),
        n_done=sum((fit / SPEC).is_file() for fit in wanted),
        n_dropped=sum(not (fit / SPEC).is_file() and any(fit.glob("dropped-*.json")) for fit in wanted),
        n_failed=sum((fit / FAILED).is_file() for fit in wanted),
        n_wanted=len(wanted),
        figures=() if results is None else _figures_of(run, results),
    )


def _results_of(run: RunFolder) -> dict[str, Any] | None:
    """The results, when they were made from the config that lies there now."""
    if not run.results.is_file():
        return None
    results = read_kept_results(run)
    return results if read_kept_config(results, run.root) == load_config(run.config) else None


def _figures_of(run: RunFolder, results: dict[str, Any]) -> tuple[Figure, ...]:
    """Raises ListenwellError for results that were changed."""
    try:
        return tuple(
            Figure(row["test_set"], row["condition"], metric["value"], metric["low"], metric["high"])
            for row in results["rows"]
            if (row["method"], row["threshold"]) == (FINE_TUNED, "calibrated")
            and row["condition"] in ("clean", "noisy")
            for metric in row["metrics"]
            if metric["name"] == "balanced_accuracy"
        )
    except (KeyError, TypeError) as error:
        raise ListenwellError(f"{run.results}: is broken ({error!r}); delete it and run the study again.") from error


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


def open_run(root: Path) -> tuple[RunFolder, Config]:
    """The run below `root` with the ledger its config names; its output is `root`, wherever the run was made.

    Raises ListenwellError when there is none.
    """
    path = RunFolder(root).config
    if not path.is_file():
        raise ListenwellError(f"{root}: holds no run (no {path.name}); give the folder that 'output' names.")
    config = load_config(path).model_copy(update={"output": root})
    return RunFolder(root, config.ledger), config


def splits_of_run(run: RunFolder, config: Config, on_progress: OnProgress = ignore_progress) -> Splits:
    """The splits that the run trained, chose and tested on. Raises ListenwellError when its data are others by now."""
    splits, _ = read_splits(config, on_progress)
    has_moved = run.allocation.is_file() and json.loads(run.allocation.read_text("utf-8")) != allocation(splits)
    if has_moved or any(_is_of_other_data(run, split, splits) for split in splits.clips):
        raise ListenwellError(
            f"{run.root}: its recordings, labels, groups or division are not those the study was run on "
            f"({run.allocation.name} tells which groups were where); run the study again, or restore them."
        )
    return splits


def _is_of_other_data(run: RunFolder, split: str, splits: Splits) -> bool:
    """True when the kept scores of a split, or the fit they are of, were made from other sounds than it has now."""
    if split == TRAIN:
        scored = scores_made_from(run, DEV)
        if scored is None or not (spec := run.fit(scored["fits"][FINE_TUNED]) / SPEC).is_file():
            return False
        return bool(read_checksummed(spec)["train_clips"] != clip_hashes(splits.clips[TRAIN]))
    made_from = scores_made_from(run, split)
    return made_from is not None and (
        made_from["clips"] != clip_hashes(splits.clips[split])
        or {k: v for k, v in made_from["backgrounds"].items() if k != STORED} != splits.banks[split].hashes
    )


def scores_made_from(run: RunFolder, split: str) -> dict[str, Any] | None:
    """What a study's scores of a split were made from; None where no study, or an older version, made them."""
    note = run.score_identity(split)
    kept = read_checksummed(note).get(MADE_FROM) if note.is_file() else None
    return kept if isinstance(kept, dict) and isinstance(kept.get("fits"), dict) else None


def require_finished(run: RunFolder, results: Mapping[str, Any]) -> None:
    """Raise ListenwellError when the kept dev scores are of another fit than the one the results deliver."""
    made_from, delivered = scores_made_from(run, DEV), results["fits"][0]["identity"]
    if made_from is not None and made_from["fits"].get(FINE_TUNED) != delivered:
        raise ListenwellError(
            f"{run.root}: a later study in this folder was not finished: its scores are no longer those of the fit "
            f"{delivered} that {run.results.name} delivers; run the study to its end."
        )


def delivered_adapter(run: RunFolder) -> Path:
    """The adapter's folder of a finished study. Raises ListenwellError when it is not finished, or was changed."""
    if not run.results.is_file():
        raise ListenwellError(
            f"{run.root}: holds no finished study (no {run.results.name}); run 'listenwell study' first."
        )
    results = read_kept_results(run)
    if "fits" not in results:
        raise ListenwellError(f"{run.root}: was scored, not trained, so it has no adapter; give the folder of a study.")
    folder = run.fit(results["fits"][0]["identity"])
    require_adapter(folder)
    return folder / "adapter"


def find_adapter(folder: Path) -> Path:
    """The folder itself where an adapter lies in it; of a finished study, that of the adapter it delivers."""
    is_run = RunFolder(folder).config.is_file() and not (folder / "adapter_config.json").is_file()
    return delivered_adapter(open_run(folder)[0]) if is_run else folder


def export_tensorboard(run_root: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write one folder of event files per fit of the run into `out` and return them; an older export is replaced.

    Fits under training are copied as far as they are. Raises ListenwellError when there is nothing to copy, or
    TensorBoard is not installed, or a finished fit's metrics were changed; ConfigError where such a folder holds what
    listenwell did not write, unless `overwrite`.
    """
    run, _ = open_run(run_root)
    fits = [run.fit(fit) for fit in requested_fits(run) if (run.fit(fit) / METRICS).is_file()]
    if not fits:
        raise ListenwellError(
            f"{run_root}: none of its fits has written a {METRICS} yet; give the folder of a run that trains or has "
            "trained."
        )
    folders = [out / fit.name for fit in fits]
    with destinations(folders=folders, inputs=[run_root, *fits], overwrite=overwrite):
        for fit, folder in zip(fits, folders, strict=True):
            require_log(fit, METRICS)
            with atomic_folder(folder) as temporary:
                _write_events(temporary, fit / METRICS)
    return folders


def _write_events(folder: Path, metrics: Path) -> None:
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ListenwellError(
            "the Python package tensorboard is not installed; install it with: pip install 'listenwell[tracking]'"
        ) from error
    # one time for all lines: they hold none, and the same metrics give the same events
    written = metrics.stat().st_mtime
    writer = Writer(str(folder))
    for record in _records(metrics):
        axis = "epoch" if "epoch" in record else "step"
        for name, value in record.items():
            if name not in COUNTERS:
                writer.add_scalar(f"{axis}/{name}", value, record[axis], wall_time=written)
    writer.close()


def _records(metrics: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines; the last one of a fit under training may be half-written and is passed over."""
    lines = metrics.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise ListenwellError(f"{metrics} line {number}: is no JSON ({error}); train the fit again.") from error
