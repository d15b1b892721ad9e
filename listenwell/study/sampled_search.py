"""A search that draws its points: generations from a tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's.

The search is a function of the seed and of what its fits scored. Every call begins anew, draws the same first
generation, finds its fits in the ledger (trained before a kill, perhaps), draws the same second one, and goes on where
nothing was trained yet: a killed search resumes, and no point is trained twice.

Every fit keeps the schedule of its full length, so trials stay comparable; the worse ones of a stack end at rungs
(listenwell.fits.ledger), and the sampler learns from those too, as Optuna does from pruned trials: behind all that
were trained whole, by the rung reached, then by the dev loss there.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from listenwell.config import Config
from listenwell.errors import ConfigError
from listenwell.fits.ledger import DroppedFit
from listenwell.random_streams import stream
from listenwell.study_settings import SampledConfig

MOST_REPEATS = 50
"""Draws of known points in a row after which an untried one is drawn uniformly."""

Point = dict[str, Any]
Key = tuple[str, ...]
"""A point's values as text, in the order of the space."""
Value = float | DroppedFit | None
"""The objective of a trial, how it came to end at a rung, or None when its fit failed."""


def draw_and_judge(config: Config, judge: Callable[[Sequence[Point]], Sequence[Value]]) -> dict[str, Any]:
    """Draw and judge search.sampled.trials different points, a generation at a time.

    judge: points -> their values, higher is better. Returns the space and the objectives in the order of the trials,
    None where there is none. Raises ConfigError for a space that cannot give that many.
    """
    # in one order, whatever the config's: the draws follow it
    sampled = config.search.sampled.model_copy(update={"space": dict(sorted(config.search.sampled.space.items()))})
    _check_space(sampled)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    values: dict[Key, Value] = {}
    while len(values) < sampled.trials:
        n_wanted = min(sampled.generation, sampled.trials - len(values))
        drawn = _draw_generation(study, sampled, config.seed, values, n_wanted)
        points = [{key: trial.params[key] for key in sampled.space} for trial in drawn.values()]
        values |= dict(zip(drawn, judge(points), strict=True))
        for key, trial in drawn.items():
            _tell(study, trial, values[key])
    return {
        "space": {key: list(choices) for key, choices in sampled.space.items()},
        "objectives": [value if isinstance(value, float) else None for value in values.values()],
        "generation": sampled.generation,
    }


def _check_space(sampled: SampledConfig) -> None:
    for key, choices in sampled.space.items():
        if not choices or len(set(map(repr, choices))) < len(choices):
            raise ConfigError(f"search.sampled.space, {key}: {list(choices)}; give different values, at least one.")
    n_points = prod(map(len, sampled.space.values())) if sampled.space else 0
    if sampled.trials > n_points:
        raise ConfigError(
            f"search.sampled.trials is {sampled.trials}, but search.sampled.space has {n_points} points; "
            "widen the space, or lower the trials."
        )


def _draw_generation(
    study: optuna.Study, sampled: SampledConfig, seed: int, values: Mapping[Key, Value], n: int
) -> dict[Key, Trial]:
    """Draw n new points. Of a point that was judged before Optuna gets the value again, and another one is drawn."""
    rng = stream(seed, "sampled search", len(values))
    study.sampler = TPESampler(seed=int(rng.integers(2**31)))
    space = {key: CategoricalDistribution(choices) for key, choices in sampled.space.items()}
    drawn: dict[Key, Trial] = {}
    n_repeats = 0
    while len(drawn) < n:
        if n_repeats == MOST_REPEATS:
            points = (dict(zip(space, choices, strict=True)) for choices in product(*sampled.space.values()))
            tried = {*values, *drawn}
            untried = [point for point in points if _key(point, sampled) not in tried]
            study.enqueue_trial(untried[int(rng.integers(len(untried)))])
        trial = study.ask(space)  # type: ignore[arg-type]
        key = _key(trial.params, sampled)
        n_repeats = n_repeats + 1 if key in drawn or key in values else 0
        if key in drawn:
            study.tell(trial, state=TrialState.FAIL)
        elif key in values:
            _tell(study, trial, values[key])
        else:
            drawn[key] = trial
    return drawn


def _key(point: Mapping[str, Any], sampled: SampledConfig) -> Key:
    return tuple(repr(point[key]) for key in sampled.space)


def _tell(study: optuna.Study, trial: Trial, value: Value) -> None:
    if value is None:
        study.tell(trial, state=TrialState.FAIL)
    elif isinstance(value, DroppedFit):
        trial.report(-value.best["dev_loss"], step=value.rung)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)
