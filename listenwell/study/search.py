"""Search settings: every point tried is a fit, dev alone judges, and the winner's advantage is not believed.

The objective is balanced accuracy on dev with a threshold that other dev groups chose (cross-fitted), ties broken by
the lower dev loss. Trials of a sampled search that train together form a bracket (listenwell.fits.ledger); one that
ended at a rung has no objective and is listed apart.

The best of many equal configs looks better than it is; how much is estimated by drawing dev groups again: choose on the
drawn groups, judge on those left out, and compare (bootstrap optimism, Efron 1983).
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from listenwell.config import Config, change_config
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ConfigError, ManifestError, TrainingError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_balanced_accuracy
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.fitting import FinishedFit, Outcome, Trainer
from listenwell.fits.ledger import DroppedFit
from listenwell.fits.request import Bracket, FitRequest, check_changes
from listenwell.judge.score import score_fits
from listenwell.random_streams import stream
from listenwell.report.trained import Optimism, Point, Search
from listenwell.splits.divide import DEV, TRAIN, Splits
from listenwell.storage.run_folder import identity
from listenwell.train.fit import FailedFit
from listenwell.train.settings import count_steps

N_RESAMPLES = 200
DECIDE_WARMUP = tuple(
    f"train.{name}" for name in ("warmup_steps", "warmup_share", "epochs", "batch", "accumulation", "clips_per_epoch")
)
Changes = Mapping[str, Any]
"""Dotted settings and their values."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A point that was tried: how its fit ended, and its dev scores and objective where it ended well."""

    point: Changes
    config: Config
    fit: Outcome
    table: ScoreTable | None
    objective: float | None


def run_search(config: Config, trainer: Trainer, splits: Splits, fold: str = "") -> Search:
    """Train and judge the points of search.grid, or those search.sampled draws.

    fold: the name of the fold whose training groups search, where they do. Returns the ranked points, the best, those
    dropped at a rung, the steps this saved, the selection optimism and, of a sampled search, what it learned. Raises
    ConfigError when nothing is to be tried, TrainingError when every fit failed.
    """
    _require_dev_groups(splits, fold)
    _require_short_warmups(config, len(splits.clips[TRAIN]))
    trials: list[Trial] = []

    def judge(points: Sequence[Changes]) -> list[float | DroppedFit | None]:
        """The objectives of these points, which train together; how it came to end at a rung, None where it failed."""
        first = len(trials) + 1
        names = [f"{fold}-search-{n}" if fold else f"search-{n}" for n in range(first, first + len(points))]
        new = _judge_points(dict(zip(names, points, strict=True)), config, trainer, splits)
        trials.extend(new)
        return [trial.fit if isinstance(trial.fit, DroppedFit) else trial.objective for trial in new]

    sampled = None
    if config.search.sampled.trials:
        # Optuna takes a second to load, and few studies need it
        from listenwell.study.sampled_search import draw_and_judge

        sampled = draw_and_judge(config, judge)
    elif config.search.grid:
        judge(config.search.grid)
    else:
        raise ConfigError(
            "there is nothing to search: search.grid is empty and search.sampled.trials is 0; give at least one point, "
            "such as {lora.rank: 16}, or a number of trials."
        )
    return _rank(trials, sampled, config.seed, splits.clips[DEV])


def _require_dev_groups(splits: Splits, fold: str) -> None:
    for label in LABELS:
        groups = sorted({clip.group for clip in splits.clips[DEV] if clip.label == label})
        if len(groups) < 2:
            raise ManifestError(
                f"search{f' {fold}' if fold else ''}: dev has one {label} group ({', '.join(groups)}), but a second "
                "must judge the threshold it chose; add groups, or raise data.dev_share (in folds "
                "leave_one_out.dev_speakers)."
            )


def _require_short_warmups(config: Config, n_clips: int) -> None:
    """Raise ConfigError for a warm-up that fills a fit on n_clips, before any point is trained.

    Of a space only what decides it is combined: its other settings would multiply the points.
    """
    sampled = config.search.sampled
    deciding = {key: choices for key, choices in sampled.space.items() if key in DECIDE_WARMUP}
    drawn = [dict(zip(deciding, choices, strict=True)) for choices in itertools.product(*deciding.values())]
    for point in drawn if sampled.trials else config.search.grid:
        train = change_config(config, point, "search").train
        n_steps = count_steps(train, train.clips_per_epoch or n_clips)
        if train.warmup_steps is not None and train.warmup_steps >= n_steps:
            where = "search.sampled.space" if sampled.trials else "search.grid"
            raise ConfigError(
                f"{where}: a warm-up of {train.warmup_steps} steps fills a fit on these {n_clips} clips, which has "
                f"{n_steps} steps ({train.epochs} epochs); give shorter ones, train.warmup_share, or a space without "
                "any, such as 'search.sampled.space={lora.rank: [4, 8, 16], train.learning_rate: [1e-4, 2e-4]}'."
            )


def _judge_points(points: Mapping[str, Changes], config: Config, trainer: Trainer, splits: Splits) -> list[Trial]:
    """Train these points, by the names of their fits, together and judge them."""
    for name, point in points.items():
        check_changes(name, point)
    configs = [change_config(config, point, name) for name, point in points.items()]
    requests = [
        FitRequest(name, changed, splits, config, bracket)
        for name, changed, bracket in zip(points, configs, _brackets(config, configs), strict=True)
    ]
    fits = trainer.fit_all(requests)
    done = [(changed, fit) for changed, fit in zip(configs, fits, strict=True) if isinstance(fit, FinishedFit)]
    tables = score_fits(done, trainer, splits, DEV, config.evaluation.conditions, config, "search-dev")
    trials = []
    for point, changed, fit in zip(points.values(), configs, fits, strict=True):
        table = tables[fit.folder] if isinstance(fit, FinishedFit) else None
        objective = None if table is None else cross_fitted_balanced_accuracy(table)
        trials.append(Trial(point, changed, fit, table, objective))
    return trials


def _brackets(config: Config, trials: Sequence[Config]) -> list[Bracket | None]:
    """The bracket of each trial of a sampled search: as many as a stack holds, in the order they were drawn."""
    sampled = config.search.sampled
    if not sampled.trials or not sampled.rungs:
        return [None] * len(trials)
    n_alike: Counter[str] = Counter()
    brackets: list[Bracket | None] = []
    for trial in trials:
        alike = identity(**trial.model_dump(mode="json", include={"prompt", "short_clips"}))
        number = n_alike[alike] // config.train.stack
        n_alike[alike] += 1
        brackets.append(Bracket(f"{alike[:16]}-{number}", sampled.rungs, sampled.keep_share))
    return brackets


def _rank(trials: Sequence[Trial], sampled: dict[str, Any] | None, seed: int, dev: Sequence[Clip]) -> Search:
    judged, failed, dropped = [], [], []
    n_trained = n_saved = 0
    for trial in trials:
        changes, fit = dict(trial.point), trial.fit
        if isinstance(fit, FailedFit):
            failed.append({"changes": changes, "reason": fit.reason})
            continue
        best = {name: fit.best[name] for name in ("dev_loss", "dev_auc")}
        if isinstance(fit, DroppedFit):
            n_steps = fit.history[-1]["step"]
            dropped.append({"changes": changes, "rung": fit.rung, **best, "n_steps": n_steps})
            n_saved += trial.config.train.epochs * fit.history[0]["step"] - n_steps
        else:
            record = {name: fit.record[name] for name in ("best_epoch", "n_steps", "identity")}
            judged.append(Point.model_validate({"changes": changes, "objective": trial.objective, **best, **record}))
            n_steps = fit.record["n_steps"]
        n_trained += n_steps
    if not judged:
        raise TrainingError("every fit of the search left the finite numbers; lower the learning rates.")
    ranked = sorted(judged, key=lambda point: (-point.objective, point.dev_loss))
    return Search(
        ranked=ranked,
        best=ranked[0].changes,
        failed=failed,
        dropped=dropped,
        n_steps={"trained": n_trained, "trained_whole": n_trained + n_saved},
        optimism=selection_optimism([trial.table for trial in trials if trial.table is not None], seed),
        n_dev_clips=len(dev),
        n_dev_groups=len({clip.group for clip in dev}),
        sampled=sampled,
    )


def selection_optimism(tables: Sequence[ScoreTable], seed: int, n_resamples: int = N_RESAMPLES) -> Optimism:
    """How much better the chosen point looks on the groups that choose it than on others, in balanced accuracy.

    chosen: its mean on the groups drawn; left_out: on those not drawn; optimism: the difference. None where the groups
    are too few to leave both labels on either side.
    """
    groups = {label: np.unique(tables[0].group[tables[0].is_speech == label]) for label in (True, False)}
    chosen, left_out = [], []
    for number in range(n_resamples):
        rng = stream(seed, "selection", number)
        drawn = {g for of in groups.values() for g in of[rng.integers(of.size, size=of.size)].tolist()}
        inside = np.array([group in drawn for group in tables[0].group.tolist()])
        if any(len(set(tables[0].is_speech[rows].tolist())) < 2 for rows in (inside, ~inside)):
            continue
        values = [_value(table, inside, inside) for table in tables]
        chosen.append(max(values))
        left_out.append(_value(tables[values.index(max(values))], inside, ~inside))
    if not chosen:
        return Optimism(chosen=None, left_out=None, optimism=None)
    means = float(np.mean(chosen)), float(np.mean(left_out))
    return Optimism(chosen=means[0], left_out=means[1], optimism=means[0] - means[1])


def _value(table: ScoreTable, choosing: Bools, judged: Bools) -> float:
    threshold = choose_threshold(table.select(choosing)).value
    return balanced_accuracy(decide(table.score[judged], threshold), table.is_speech[judged])
