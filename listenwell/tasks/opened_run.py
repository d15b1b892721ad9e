"""A run that somebody made before, opened by its folder: where its artefacts lie, its config, its delivered adapter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from listenwell.config import Config, load_config
from listenwell.data.backgrounds import STORED
from listenwell.data.clip import clip_hashes
from listenwell.errors import ListenwellError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.ledger import SPEC, require_adapter
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import read_splits
from listenwell.splits.divide import DEV, TRAIN, Splits, allocation
from listenwell.storage.load_or_make import MADE_FROM, read_checksummed
from listenwell.storage.run_folder import RunFolder, read_kept_results


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
    if _is_divided_otherwise(run, splits) or any(_is_of_other_data(run, split, splits) for split in splits.clips):
        raise ListenwellError(
            f"{run.root}: its recordings, labels, groups or division are not those the study was run on "
            f"({run.allocation.name} tells which groups were where); run the study again, or restore them."
        )
    return splits


def _is_divided_otherwise(run: RunFolder, splits: Splits) -> bool:
    if not run.allocation.is_file():
        return False
    return bool(json.loads(run.allocation.read_text(encoding="utf-8")) != allocation(splits))


def _is_of_other_data(run: RunFolder, split: str, splits: Splits) -> bool:
    """True when the kept scores of a split, or the fit they are of, were made from other sounds than it has now."""
    if split == TRAIN:
        spec = _spec_of_delivered(run)
        return spec is not None and spec["train_clips"] != clip_hashes(splits.clips[TRAIN])
    made_from = scores_made_from(run, split)
    return made_from is not None and (
        made_from["clips"] != clip_hashes(splits.clips[split])
        or {k: v for k, v in made_from["backgrounds"].items() if k != STORED} != splits.banks[split].hashes
    )


def _spec_of_delivered(run: RunFolder) -> dict[str, Any] | None:
    """What the fit was trained on whose dev scores are kept; None where there is none."""
    scored = scores_made_from(run, DEV)
    spec = None if scored is None else run.fit(scored["fits"][FINE_TUNED]) / SPEC
    return read_checksummed(spec) if spec is not None and spec.is_file() else None


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
