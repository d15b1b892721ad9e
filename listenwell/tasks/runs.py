"""Runs that were made before: opened by their folder, listed side by side.

A run is a folder with a config.yaml that a study, train, search or cross-validate command wrote.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from listenwell.augment.conditions import CLEAN
from listenwell.config import Config, config_beside, load_config
from listenwell.data.clip import clip_hashes
from listenwell.errors import ListenwellError, ManifestError
from listenwell.evaluate.methods import CALIBRATED, FINE_TUNED, NOISY, Row
from listenwell.fits.ledger import requested_fits, require_adapter
from listenwell.fits.request import FAILED, SPEC
from listenwell.judge.score import scored_clips
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.results import read_results
from listenwell.splits.clips import read_splits
from listenwell.splits.divide import DEV, TRAIN, Splits, allocation
from listenwell.storage.load_or_make import MADE_FROM, read_checksummed
from listenwell.storage.run_folder import RunFolder, holder_of, is_held, is_run, read_kept_results


@dataclass(frozen=True, slots=True)
class RunState:
    """One run. holder: who works in it; changed: when config or results were last written.

    rows: of a finished study the delivered detector at its calibrated threshold, clean and noisy, by test set.
    """

    folder: Path
    state: Literal["running", "finished", "unfinished"]
    holder: str
    changed: datetime
    n_done: int
    n_dropped: int
    n_failed: int
    n_wanted: int
    rows: Sequence[Row]


def list_runs(folder: Path) -> list[RunState]:
    """The run `folder` is, or the runs below it at any depth, by path. Raises ListenwellError when there is none."""
    # a config.yaml may be another program's
    configs = [path for path in sorted(folder.rglob("config.yaml")) if is_run(RunFolder(path.parent))]
    if not configs:
        raise ListenwellError(
            f"{folder}: holds no run (a config.yaml beside run.lock or used_fits.json); give the folder that 'output' "
            "names."
        )
    return [_state_of(path.parent, load_config(path)) for path in configs]


def _state_of(root: Path, config: Config) -> RunState:
    run = RunFolder(root, config.ledger)
    holder, running = holder_of(run), is_held(run)
    kept = read_kept_results(run) if run.results.is_file() else {}
    # results may be of the config that lay there before
    finished = "config" in kept and kept["config"] == config_beside(config, root).model_dump(mode="json")
    rows = [
        row
        for row in (read_results(run).rows if finished else ())
        if (row.method, row.threshold) == (FINE_TUNED, CALIBRATED) and row.condition in (CLEAN, NOISY)
    ]
    wanted = [run.fit(fit) for fit in requested_fits(run)]
    latest = max(path.stat().st_mtime for path in (run.config, run.results) if path.is_file())
    return RunState(
        folder=root,
        state="running" if running else "finished" if finished else "unfinished",
        holder=f"process {holder['pid']} on {holder['host']}" if running and holder is not None else "",
        changed=datetime.fromtimestamp(latest, UTC),
        n_done=sum((fit / SPEC).is_file() for fit in wanted),
        n_dropped=sum(not (fit / SPEC).is_file() and any(fit.glob("dropped-*.json")) for fit in wanted),
        n_failed=sum((fit / FAILED).is_file() for fit in wanted),
        n_wanted=len(wanted),
        rows=rows,
    )


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
    spec = run.fit(scores_made_from(run, f"{FINE_TUNED}-{DEV}")["fit"]) / SPEC
    is_known = json.loads(run.allocation.read_text("utf-8")) == allocation(splits)
    if spec.is_file():
        is_known = is_known and read_checksummed(spec)["train_clips"] == clip_hashes(splits.clips[TRAIN])
    if not is_known or not all(_scored_these(run, config, splits, split) for split in splits.clips if split != TRAIN):
        raise ListenwellError(
            f"{run.root}: its recordings, labels, groups or division are not those the study was run on "
            f"({run.allocation.name} tells which groups were where); run the study again, or restore them."
        )
    return splits


def _scored_these(run: RunFolder, config: Config, splits: Splits, split: str) -> bool:
    """True when the kept scores of a split were made from the sounds it has now."""
    made_from = scores_made_from(run, f"{FINE_TUNED}-{split}")
    now = {"clips": clip_hashes(scored_clips(config, splits, split)), "backgrounds": splits.banks[split].hashes}
    return all(made_from[what] == hashes for what, hashes in now.items())


def scores_made_from(run: RunFolder, name: str) -> dict[str, Any]:
    """What the score table NAME, or a split's set of them, was made from. Raises ListenwellError where no study did."""
    note = run.score_identity(name)
    if not note.is_file():
        raise ListenwellError(f"{run.root}: no study has left scores/{note.name} here; run the study in it, or again.")
    made_from: dict[str, Any] = read_checksummed(note, ManifestError)[MADE_FROM]
    return made_from


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
    is_study = RunFolder(folder).config.is_file() and not (folder / "adapter_config.json").is_file()
    return delivered_adapter(open_run(folder)[0]) if is_study else folder
