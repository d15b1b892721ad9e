"""Which modules an adapter changes: what lora.scope and lora.targets mean for one model.

The model's family knows its halves and the names of their linear modules; an expression picks among these by full
path, as PEFT's target_modules does when it is a string (the whole path must match).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from listenwell.errors import ConfigError
from listenwell.model.settings import REGEX, LoraConfig

HALVES = ("language_model", "audio_tower")
EVERY_LINEAR = "attention+mlp"


class NamesTargets(Protocol):
    """What is asked of a model here."""

    def lora_targets(self, scope: str, kind: str) -> list[str]:
        """Full names of the linear modules an adapter of this scope and kind attaches to."""


def find_targets(model: NamesTargets, config: LoraConfig) -> list[str]:
    """Full names of the modules an adapter of this shape changes, in the model's order.

    Raises ConfigError when an expression matches none.
    """
    return match_targets(model.lora_targets(config.scope, kind_of(config)), config)


def kind_of(config: LoraConfig) -> str:
    """Which modules of the scope may be changed; an expression picks among all."""
    return EVERY_LINEAR if config.targets.startswith(REGEX) else config.targets


def match_targets(names: Sequence[str], config: LoraConfig) -> list[str]:
    """Those of `names` that the config's expression matches; all where it has none. Raises ConfigError for no match."""
    if not config.targets.startswith(REGEX):
        return list(names)
    expression = re.compile(config.targets.removeprefix(REGEX))
    found = [name for name in names if expression.fullmatch(name)]
    if not found:
        raise ConfigError(
            f"lora.targets '{config.targets}' matches none of the {len(names)} linear modules of scope {config.scope}; "
            f"it must match a whole path such as {names[0]}: begin it with '.*', or choose another lora.scope."
        )
    return found


def count_by_half(model: NamesTargets, names: Iterable[str]) -> dict[str, int]:
    """How many of the modules `names` lie in each half of the model; halves with none are left out."""
    chosen = set(names)
    counts = {half: len(chosen.intersection(model.lora_targets(half, EVERY_LINEAR))) for half in HALVES}
    return {half: count for half, count in counts.items() if count}
