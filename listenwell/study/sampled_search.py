"""A search that draws its points: generations from a tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's.

The search is a function of the seed and of what its fits scored. Every call begins anew, draws the same first
generation, finds its fits in the ledger (trained before a kill, perhaps), draws the same second one, and goes on where
nothing was trained yet: a killed search resumes, and no point is trained twice. Optuna's database is written after each
generation for its own tools and never read here, so it can be lost or damaged without harm.

Every fit keeps the schedule of its full length, so trials stay comparable; the worse ones of a stack end at rungs
(listenwell.fits.halving), and the sampler learns from those too, as Optuna does from pruned trials: behind all that
were trained whole, by the rung reached, then by the dev loss there.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from listenwell.config import Config
from listenwell.errors import ConfigError
from listenwell.fits.halving import DroppedFit
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import atomic_path
from listenwell.study_settings import SampledConfig

Point = dict[str, Any]
STUDY_NAME = "listenwell"
MOST_REPEATS = 50
"""Draws of known points in a row after which an untried one is drawn uniformly."""
FEW_TRIALS_PER_SETTING = 10

Value = float | DroppedFit | None
"""The objective of a trial, how it came to end at a rung, or None when its fit failed."""


def draw_and_judge(
    config: Config, judge: Callable[[Sequence[Point]], Sequence[Value]], database: Path | None
) -> dict[str, Any]:
    """Draw and judge search.sampled.trials different points, a generation at a time.

    judge: points -> their values, higher is better. database: the file for Optuna's tools, None for none. Returns the
    space, the objectives in the order of the trials (None where there is none), and each setting's importance. Raises
    ConfigError for a space that cannot give that many.
    """
    # in one order, whatever the config's: the draws follow it
    sampled = config.search.sampled.model_copy(update={"space": dict(sorted(config.search.sampled.space.items()))})
    _check_space(sampled, config.search.most_points)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=STUDY_NAME, direction="maximize")
    values: dict[tuple[Any, ...], Value] = {}
    while len(values) < sampled.trials:
        n_wanted = min(sampled.generation, sampled.trials - len(values))
        asked = _ask_generation(study, sampled, config.seed, values, n_wanted)
        values |= dict(
            zip(asked, judge([{key: t.params[key] for key in sampled.space} for t in asked.values()]), strict=True)
        )
        for key, trial in asked.items():
            _tell(study, trial, values[key])
        if database is not None:
            _write_database(study, database)
    return {
        "space": {key: list(choices) for key, choices in sampled.space.items()},
        "objectives": [value if isinstance(value, float) else None for value in values.values()],
        "generation": sampled.generation,
        **_importance(study, config.seed, sampled),
    }


def _check_space(sampled: SampledConfig, most_points: int) -> None:
    for key, choices in sampled.space.items():
        if not choices or len(set(map(repr, choices))) < len(choices):
            raise ConfigError(f"search.sampled.space, {key}: {list(choices)}; give different values, at least one.")
    n_points = prod(len(choices) for choices in sampled.space.values()) if sampled.space else 0
    if sampled.trials > n_points:
        raise ConfigError(
            f"search.sampled.trials is {sampled.trials}, but search.sampled.space has {n_points} points; "
            "widen the space, or lower the trials."
        )
    if sampled.trials > most_points:
        raise ConfigError(
            f"search.sampled.trials is {sampled.trials}, more than search.most_points ({most_points}); "
            "lower it, or raise search.most_points if you mean it."
        )


def _ask_generation(
    study: optuna.Study, sampled: SampledConfig, seed: int, values: Mapping[tuple[Any, ...], Value], n: int
) -> dict[tuple[Any, ...], Trial]:
    """Draw n new points. A point that was judged before is told its value again and another one is drawn."""
    rng = stream(seed, "sampled search", len(values))
    study.sampler = TPESampler(seed=int(rng.integers(2**31)))
    space = {key: CategoricalDistribution(choices) for key, choices in sampled.space.items()}
    asked: dict[tuple[Any, ...], Trial] = {}
    n_repeats = 0
    while len(asked) < n:
        if n_repeats == MOST_REPEATS:
            study.enqueue_trial(_untried(sampled, {*values, *asked}, rng))
        trial = study.ask(space)  # type: ignore[arg-type]
        key = _key(trial.params, sampled)
        if key in asked:
            study.tell(trial, state=TrialState.FAIL)
        elif key in values:
            _tell(study, trial, values[key])
        else:
            asked[key] = trial
        n_repeats = 0 if trial is asked.get(key) else n_repeats + 1
    return asked


def _key(point: Mapping[str, Any], sampled: SampledConfig) -> tuple[Any, ...]:
    return tuple(repr(point[key]) for key in sampled.space)


def _untried(sampled: SampledConfig, tried: set[tuple[Any, ...]], rng: np.random.Generator) -> Point:
    points = (dict(zip(sampled.space, values, strict=True)) for values in product(*sampled.space.values()))
    left = [point for point in points if _key(point, sampled) not in tried]
    return left[int(rng.integers(len(left)))]


def _tell(study: optuna.Study, trial: Trial, value: Value) -> None:
    if value is None:
        study.tell(trial, state=TrialState.FAIL)
    elif isinstance(value, DroppedFit):
        trial.report(-value.best["dev_loss"], step=value.rung)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


def _write_database(study: optuna.Study, database: Path) -> None:
    with atomic_path(database) as temporary:
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        copy = optuna.create_study(storage=storage, study_name=STUDY_NAME, direction="maximize")
        copy.add_trials([trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()])
        storage.remove_session()
        storage.engine.dispose()


def _importance(study: optuna.Study, seed: int, sampled: SampledConfig) -> dict[str, Any]:
    """Each setting's share of the variance of the objective (fANOVA: Hutter et al. 2014), and how far to believe it."""
    done = {repr(sorted(t.params.items())): t.value for t in study.get_trials(states=(TrialState.COMPLETE,))}
    if len(set(done.values())) < 2:
        return {"importance": None, "importance_note": "the objective was the same everywhere; nothing can be said."}
    evaluator = FanovaImportanceEvaluator(seed=int(stream(seed, "importance").integers(2**31)))
    shares = {key: float(share) for key, share in get_param_importances(study, evaluator=evaluator).items()}
    enough = FEW_TRIALS_PER_SETTING * len(sampled.space)
    whole = f"{len(done)} trials" if len(done) == sampled.trials else f"{len(done)} trials trained whole"
    few = f"{whole} for {len(sampled.space)} settings are few (fewer than {enough}): a hint, not a finding."
    return {"importance": shares, "importance_note": few if len(done) < enough else f"from {whole}."}
