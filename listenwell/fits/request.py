"""A fit that a study wants, and its identity: the hash of everything that decides it.

That is the recipe's version, model, prompt, short-clip policy, LoRA, training and augmentation settings, seed, the
clips' content, the backgrounds, and how dev is heard. What changes no result is left out. Trains nothing.

What a fit leaves in its folder, and whether it is still as it was written.

adapter/ (PEFT format), history.json, plans.jsonl (one line per clip heard), metrics.jsonl (one line per step and
epoch), and spec.json, which is written last, marks the fit as finished and vouches for the others; failed.json in its
place where the fit was stopped for good; dropped-<race>.json where it lost one (listenwell.fits.halving).

A study needs the adapter and the history; a log is checked by those who read it, so that a bit that flipped in one
costs no training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.config import Config
from listenwell.data.clip import clip_hashes
from listenwell.model.loading import resolve_dtype
from listenwell.splits.divide import DEV, TRAIN, Parts
from listenwell.storage.load_or_make import read_checksummed, require_files
from listenwell.storage.run_folder import identity
from listenwell.train.fit_log import LOGS

SPEC, FAILED, HISTORY = "spec.json", "failed.json", "history.json"


def require_adapter(folder: Path) -> None:
    """Raise CheckpointError when a finished fit's adapter or history was changed."""
    read_checksummed(folder / SPEC)
    require_files(folder / SPEC, leaving_out=LOGS)


def require_log(folder: Path, name: str) -> None:
    """Raise CheckpointError when a log was changed since its fit ended; of one under training nothing is known."""
    for note in (folder / SPEC, folder / FAILED):
        if note.is_file():
            read_checksummed(note)
            require_files(note, [name])


RECIPE_VERSION = 6
"""Part of a fit's identity; raised when a change of the code makes the same settings train other bits."""


@dataclass(frozen=True, slots=True)
class Race:
    """Trials of one name run against each other. rungs: epochs, ascending; keep_share of them goes on at each."""

    name: str
    rungs: tuple[int, ...]
    keep_share: float


@dataclass(frozen=True, slots=True)
class FitRequest:
    """A fit to be had: its name, its whole config, and who trains and who chooses (dev).

    dev_config: whose augmentation and seed say how dev is heard; one for all fits that are compared.
    race: requests of one race train as one stack, and the worse ones end at its rungs.
    """

    name: str
    config: Config
    parts: Parts
    dev_config: Config
    race: Race | None = None


def fit_identity(request: FitRequest, model_fingerprint: str) -> str:
    """The hash of everything that decides the fit."""
    return identity(**spec_record(request, model_fingerprint))


def spec_record(request: FitRequest, model_fingerprint: str) -> dict[str, Any]:
    """What a fit is determined by, as JSON values. What changes no result is left out."""
    config, parts = request.config, request.parts
    sections = config.model_dump(mode="json", include={"lora", "train", "augment", "prompt", "short_clips", "seed"})
    for changes_nothing in ("workers", "checkpoint_steps", "stack"):
        del sections["train"][changes_nothing]
    return {
        **sections,
        "recipe_version": RECIPE_VERSION,
        "model": model_fingerprint,
        "dtype": resolve_dtype(config.model),
        "train_clips": clip_hashes(parts.clips[TRAIN]),
        "dev_clips": clip_hashes(parts.clips[DEV]),
        "dev_hearing": dev_hearing(request),
        "backgrounds": parts.banks[TRAIN].hashes,
    }


def dev_hearing(request: FitRequest) -> str:
    """The hash of how dev is heard: fits that share it share what is heard."""
    heard_as = request.dev_config.model_dump(mode="json", include={"augment", "seed"})
    short_clips = request.config.short_clips.model_dump(mode="json")
    return identity(heard_as=heard_as, short_clips=short_clips, backgrounds=request.parts.banks[DEV].hashes)
