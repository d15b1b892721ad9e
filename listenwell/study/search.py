"""Search settings: every point of a grid is a fit, dev alone judges, and the winner's advantage is not believed.

The objective is balanced accuracy on dev with a threshold that other dev groups chose (cross-fitted), ties broken by
the lower dev loss. The best of many equal configs looks better than it is; how much is estimated by drawing dev groups
again: choose on the drawn groups, judge on those left out, and compare (bootstrap optimism, Efron 1983).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from listenwell.config import Config, change_config
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.cross_fitting import cross_fitted_balanced_accuracy
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream
from listenwell.run_folder import RunFolder
from listenwell.study.arms import check_changes
from listenwell.study.detectors import language_model_detectors
from listenwell.study.fitting import FinishedFit, FitRequest, fit_all
from listenwell.study.parts import DEV, Parts
from listenwell.study.score import score_clips
from listenwell.train.fit import FailedFit
from listenwell.train.fit_underway import Progress

MANY_POINTS = 100
N_RESAMPLES = 200


def run_search(
    config: Config,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Train and judge every point of search.grid; returns the ranked points, the best, and the selection optimism.

    Raises ConfigError for a grid that is empty or has more than MANY_POINTS, TrainingError when every fit failed.
    """
    points = config.search.grid
    if not points:
        raise ConfigError("search.grid is empty; give at least one point, such as {lora.rank: 16}.")
    if len(points) > MANY_POINTS:
        raise ConfigError(f"search.grid has {len(points)} points; more than {MANY_POINTS} is a mistake or a year.")
    for number, point in enumerate(points, start=1):
        check_changes(f"search.grid point {number}", point)
    configs = [change_config(config, point, f"search.grid point {n}") for n, point in enumerate(points, start=1)]
    requests = [FitRequest(f"search-{n}", each, parts, config) for n, each in enumerate(configs, start=1)]
    fits = fit_all(requests, model, run, on_step)
    done = {i: fit for i, fit in enumerate(fits) if isinstance(fit, FinishedFit)}
    if not done:
        raise TrainingError("every fit of the search left the finite numbers; lower the learning rates.")
    tables = _dev_tables(config, configs, done, model, parts, on_progress)
    ranked = sorted(
        (_judge(points[i], done[i], tables[i]) for i in done), key=lambda p: (-p["objective"], p["dev_loss"])
    )
    return {
        "ranked": ranked,
        "best": ranked[0]["changes"],
        "failed": [
            {"changes": points[i], "reason": fit.reason} for i, fit in enumerate(fits) if isinstance(fit, FailedFit)
        ],
        "optimism": selection_optimism(list(tables.values()), config.seed),
        "n_dev_clips": len(parts.clips[DEV]),
        "n_dev_groups": len({clip.group for clip in parts.clips[DEV]}),
    }


def _judge(changes: Mapping[str, Any], fit: FinishedFit, table: ScoreTable) -> dict[str, Any]:
    best = fit.record["history"][fit.record["best_epoch"] - 1]
    return {
        "changes": dict(changes),
        "objective": cross_fitted_balanced_accuracy(table),
        "dev_loss": best["dev_loss"],
        "dev_auc": best["dev_auc"],
        "best_epoch": fit.record["best_epoch"],
        "n_steps": fit.record["n_steps"],
        "identity": fit.record["identity"],
    }


def _dev_tables(
    config: Config,
    configs: Sequence[Config],
    done: Mapping[int, FinishedFit],
    model: AudioLanguageModel,
    parts: Parts,
    on_progress: OnProgress,
) -> dict[int, ScoreTable]:
    """Dev scores of every fit under all conditions of the study."""
    asked = [(str(i), configs[i], fit.adapter) for i, fit in done.items()]
    detectors = language_model_detectors(model, asked)
    scored = score_clips(
        detectors, parts.clips[DEV], parts.banks[DEV], config.evaluation.conditions, config, on_progress, "judging dev"
    )
    return {int(name): table for name, table in scored.tables.items()}


def selection_optimism(
    tables: Sequence[ScoreTable], seed: int, n_resamples: int = N_RESAMPLES
) -> dict[str, float | None]:
    """How much better the chosen point looks on the groups that choose it than on others, in balanced accuracy.

    chosen: its mean on the groups drawn; left_out: on those not drawn; optimism: the difference. None where the groups
    are too few to leave both labels on either side.
    """
    groups = {label: np.unique(tables[0].group[tables[0].is_speech == label]) for label in (True, False)}
    chosen, left_out = [], []
    for number in range(n_resamples):
        rng = stream(seed, "selection", number)
        drawn = {g for own in groups.values() for g in own[rng.integers(own.size, size=own.size)].tolist()}
        inside = np.array([group in drawn for group in tables[0].group.tolist()])
        if any(len(set(tables[0].is_speech[part].tolist())) < 2 for part in (inside, ~inside)):
            continue
        best = max(
            ((_value(table, inside, inside), i) for i, table in enumerate(tables)),
            key=lambda found: (found[0], -found[1]),
        )
        chosen.append(best[0])
        left_out.append(_value(tables[best[1]], inside, ~inside))
    if not chosen:
        return {"chosen": None, "left_out": None, "optimism": None}
    means = float(np.mean(chosen)), float(np.mean(left_out))
    return {"chosen": means[0], "left_out": means[1], "optimism": means[0] - means[1]}


def _value(table: ScoreTable, choosing: Any, judged: Any) -> float:
    threshold = choose_threshold(table.select(choosing)).value
    return balanced_accuracy(decide(table.score[judged], threshold), table.is_speech[judged])
