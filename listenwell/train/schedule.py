"""How many optimiser steps a fit takes, and the learning rate of each as a share of its peak."""

import math

from listenwell.errors import ConfigError
from listenwell.train.settings import TrainConfig

DEFAULT_WARMUP_SHARE = 0.1


def count_steps(config: TrainConfig, n_clips: int) -> int:
    """Optimiser steps of a whole fit on n_clips clips per epoch; an epoch's last, smaller step counts."""
    return config.epochs * math.ceil(n_clips / (config.batch * config.accumulation))


def count_warmup_steps(config: TrainConfig, n_steps: int) -> int:
    """Warm-up steps. Raises ConfigError when the warm-up fills the whole run: no step would reach the peak."""
    if config.warmup_steps is None:
        share = DEFAULT_WARMUP_SHARE if config.warmup_share is None else config.warmup_share
        return round(share * n_steps)
    if config.warmup_steps >= n_steps:
        raise ConfigError(
            f"train.warmup_steps is {config.warmup_steps}, but the fit has only {n_steps} optimiser steps "
            f"({config.epochs} epochs); lower it, or give train.warmup_share instead."
        )
    return config.warmup_steps


def rate_share(step: int, n_steps: int, n_warmup: int, schedule: str) -> float:
    """Share of the peak learning rate at `step` (0-based): linear rise over n_warmup steps, then decay to zero."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
