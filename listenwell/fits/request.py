"""What is to be trained: the arms of a study, and the fits it wants with their identities. Trains nothing.

An arm is a named variant of the study, a few changed settings, trained with every seed. It changes how a fit is trained
or asked (CHANGEABLE), never which clips are used or what is measured: then its numbers stand beside the others'.

The identity of a fit is the hash of everything that decides it: the recipe's version, model, prompt, short-clip policy,
LoRA, training and augmentation settings, seed, the clips' content, the backgrounds, and how dev is augmented.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.config import Config, change_config
from listenwell.data.clip import Clip, clip_hashes
from listenwell.errors import ConfigError
from listenwell.model.loading import resolve_dtype
from listenwell.splits.divide import DEV, TRAIN, Splits
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.loader import draw_some

SPEC, FAILED, HISTORY = "spec.json", "failed.json", "history.json"
"""What marks a fit in the ledger as finished, or as failed for good, and its record."""
FINAL = "final"
"""The arm that is the config itself."""
SEARCH_BEST = "search.best"
CHANGEABLE = ("lora", "train", "augment", "prompt", "short_clips")
RECIPE_VERSION = 9
"""Part of a fit's identity; raised when a change of the code makes the same settings train other bits."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Trials that compete (listenwell.fits.ledger). rungs: epochs, ascending; keep_share of the trials goes on."""

    name: str
    rungs: tuple[int, ...]
    keep_share: float


@dataclass(frozen=True, slots=True)
class FitRequest:
    """A fit to be had: its name, its whole config, and who trains and who chooses (dev).

    dev_config: whose augmentation and seed the dev clips get; one for all fits that are compared.
    bracket: requests of one bracket train as one stack, and the worse ones end at its rungs.
    """

    name: str
    config: Config
    splits: Splits
    dev_config: Config
    bracket: Bracket | None = None


@dataclass(frozen=True, slots=True)
class PlannedFit:
    """A request with its identity, what that is the hash of, and the folder in the ledger.

    bracket: the key of its bracket, which the rules and all rivals decide; "" without one.
    """

    identity: str
    request: FitRequest
    spec: Mapping[str, Any]
    folder: Path
    bracket: str = ""

    @property
    def dropped(self) -> Path:
        """The file that says how it was dropped in this very bracket."""
        return self.folder / f"dropped-{self.bracket}.json"

    @property
    def is_over(self) -> bool:
        """True when nothing of the fit is left to train: finished, failed for good, or dropped in its bracket."""
        ends = [self.folder / SPEC, self.folder / FAILED, *([self.dropped] if self.bracket else [])]
        return any(path.is_file() for path in ends)


Planned = Mapping[str, PlannedFit]
"""Identity -> fit, in the order in which the fits were first requested."""


def plan_fits(requests: Sequence[FitRequest], model_fingerprint: str, run: RunFolder) -> list[PlannedFit]:
    """One planned fit per request, in their order; requests of one identity share it."""
    specs = [spec_record(request, model_fingerprint) for request in requests]
    identities = [identity(**spec) for spec in specs]
    bracket_of = {fit: request.bracket for fit, request in zip(identities, requests, strict=True)}
    keys: dict[Bracket | None, str] = {None: ""}
    for bracket in bracket_of.values():
        if bracket is not None:
            rivals = [fit for fit, other in bracket_of.items() if other == bracket]
            keys[bracket] = identity(rungs=bracket.rungs, keep_share=bracket.keep_share, rivals=rivals)[:16]
    return [
        PlannedFit(fit, request, spec, run.fit(fit), keys[bracket_of[fit]])
        for fit, request, spec in zip(identities, requests, specs, strict=True)
    ]


def spec_record(request: FitRequest, model_fingerprint: str) -> dict[str, Any]:
    """What a fit is determined by, as JSON values. What changes no result is left out."""
    config, splits = request.config, request.splits
    sections = config.model_dump(mode="json", include={"lora", "train", "augment", "prompt", "short_clips", "seed"})
    for changes_nothing in ("workers", "checkpoint_steps", "stack"):
        del sections["train"][changes_nothing]
    return {
        **sections,
        "recipe_version": RECIPE_VERSION,
        "model": model_fingerprint,
        "dtype": resolve_dtype(config.model),
        "train_clips": clip_hashes(splits.clips[TRAIN]),
        "dev_clips": clip_hashes(judging_clips(request)),
        "dev_hearing": dev_identity(request),
        "backgrounds": splits.banks[TRAIN].hashes,
    }


def judging_clips(request: FitRequest) -> list[Clip]:
    """The dev clips whose loss chooses the epoch: all, or train.dev_clips of them; compared fits share them."""
    return draw_some(request.splits.clips[DEV], request.config.train.dev_clips, request.dev_config.seed)


def dev_identity(request: FitRequest) -> str:
    """The hash of how dev clips are augmented and padded: fits that share it share their spectrograms."""
    heard_as = request.dev_config.model_dump(mode="json", include={"augment", "seed"})
    short_clips = request.config.short_clips.model_dump(mode="json")
    return identity(heard_as=heard_as, short_clips=short_clips, backgrounds=request.splits.banks[DEV].hashes)


@dataclass(frozen=True, slots=True)
class Arm:
    """One variant with one seed. name: the arm's; fit_name: with the seed."""

    name: str
    seed: int
    config: Config

    @property
    def fit_name(self) -> str:
        """What the fit is called in tables and files."""
        return f"{self.name}-seed{self.seed}"


def expand_arms(config: Config, search_best: Mapping[str, Any] | None = None) -> list[Arm]:
    """Every arm of the config with every seed, FINAL last. Raises ConfigError for a change that is no arm's to make."""
    if FINAL in config.arms:
        raise ConfigError(f"arms: '{FINAL}' is the config itself; give this arm another name.")
    arms = []
    for name, wanted in [*config.arms.items(), (FINAL, {})]:
        place, changes = f"arm '{name}'", dict(wanted)
        if changes.pop(SEARCH_BEST, False):
            if search_best is None:
                raise ConfigError(
                    f"{place}: refers to {SEARCH_BEST}, but there is no search; give search.grid or "
                    "search.sampled.trials."
                )
            changes = {**search_best, **changes}
        check_changes(place, changes)
        arms += [
            Arm(name, seed, change_config(config, {**changes, "seed": seed}, place))
            for seed in config.seeds or (config.seed,)
        ]
    return arms


def check_changes(place: str, changes: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that an arm may not change."""
    for key in changes:
        if key.split(".")[0] not in CHANGEABLE:
            raise ConfigError(
                f"{place}, {key}: an arm changes {', '.join(CHANGEABLE)}; data, model and evaluation are the study's, "
                "or its numbers could not stand beside the others."
            )
