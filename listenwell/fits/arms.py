"""Arms: named variants of one study, each a few changed settings, each trained with every seed.

An arm changes how a fit is trained or asked (CHANGEABLE), never which clips are heard or what is measured: then its
numbers stand beside the others'. FINAL is the config itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from listenwell.config import Config, change_config
from listenwell.errors import ConfigError

FINAL = "final"
SEARCH_BEST = "search.best"
CHANGEABLE = ("lora", "train", "augment", "prompt", "short_clips")


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
    changes = {name: _resolve(name, dict(wanted), search_best) for name, wanted in config.arms.items()}
    return [
        Arm(name, seed, change_config(config, {**changed, "seed": seed}, f"arm '{name}'"))
        for name, changed in [*changes.items(), (FINAL, {})]
        for seed in seeds_of(config)
    ]


def seeds_of(config: Config) -> tuple[int, ...]:
    """The seeds of a study."""
    return config.seeds or (config.seed,)


def check_changes(place: str, changes: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that an arm may not change."""
    for key in changes:
        if key.split(".")[0] not in CHANGEABLE:
            raise ConfigError(
                f"{place}, {key}: an arm changes {', '.join(CHANGEABLE)}; data, model and evaluation are the study's, "
                "or its numbers could not stand beside the others."
            )


def _resolve(name: str, changes: dict[str, Any], search_best: Mapping[str, Any] | None) -> dict[str, Any]:
    place = f"arm '{name}'"
    if changes.pop(SEARCH_BEST, False):
        if search_best is None:
            raise ConfigError(
                f"{place}: refers to {SEARCH_BEST}, but there is no search; give search.grid or search.sampled.trials."
            )
        changes = {**search_best, **changes}
    check_changes(place, changes)
    return changes
