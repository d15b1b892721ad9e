"""Search settings: every point tried is a fit, dev alone judges, and the winner's advantage is not believed.

The objective is balanced accuracy on dev with a threshold that other dev groups chose (cross-fitted), ties broken by
the lower dev loss. Trials of a sampled search that train together form a bracket (listenwell.fits.halving); one that
ended at a rung has no objective and is listed apart.

The best of many equal configs looks better than it is; how much is
estimated by drawing dev groups again: choose on the drawn groups, judge on those left out, and compare (bootstrap
optimism, Efron 1983).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from listenwell.config import Config, change_config
from listenwell.data.clip import LABELS
from listenwell.errors import ConfigError, ManifestError, TrainingError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_balanced_accuracy
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.fitting import FinishedFit, Outcome, Trainer
from listenwell.fits.halving import DroppedFit
from listenwell.fits.request import Bracket, FitRequest, check_changes
from listenwell.judge.score import score_fits
from listenwell.random_streams import stream
from listenwell.report.results import Optimism, Point, Search
from listenwell.splits.divide import DEV, Splits
from listenwell.storage.run_folder import identity
from listenwell.train.fit import FailedFit

N_RESAMPLES = 200
Changes = Mapping[str, Any]
"""Dotted settings and their values."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A point that was tried: how its fit ended, and its dev scores where it ended well."""

    point: Changes
    config: Config
    fit: Outcome
    table: ScoreTable | None
    objective: float | None

    @property
    def value(self) -> float | DroppedFit | None:
        """The objective, how it came to end at a rung, or None where the fit failed."""
        return self.fit if isinstance(self.fit, DroppedFit) else self.objective


def run_search(config: Config, trainer: Trainer, splits: Splits, fold: str = "") -> Search:
    """Train and judge the points of search.grid, or those search.sampled draws.

    fold: the name of the fold whose training groups search, where they do. Returns the ranked points, the best, those
    dropped at a rung, the steps this saved, the selection optimism and, of a sampled search, what it learned. Raises
    ConfigError when nothing is to be tried or it is too much, TrainingError when every fit failed.
    """
    _require_dev_groups(splits, fold)
    search = _Search(config, trainer, splits, fold)
    sampled = None
    if config.search.sampled.trials:
        # Optuna takes a second to load, and few studies need it
        from listenwell.study.sampled_search import draw_and_judge

        sampled = draw_and_judge(config, search.judge, None if fold else trainer.run.optuna)
    else:
        search.judge(_grid(config))
    judged = [
        Point(
            changes=dict(trial.point),
            objective=trial.objective,
            dev_loss=trial.fit.best["dev_loss"],
            dev_auc=trial.fit.best["dev_auc"],
            best_epoch=trial.fit.record["best_epoch"],
            n_steps=trial.fit.record["n_steps"],
            identity=trial.fit.record["identity"],
        )
        for trial in search.trials
        if isinstance(trial.fit, FinishedFit) and trial.objective is not None
    ]
    if not judged:
        raise TrainingError("every fit of the search left the finite numbers; lower the learning rates.")
    ranked = sorted(judged, key=lambda point: (-point.objective, point.dev_loss))
    return Search(
        ranked=ranked,
        best=ranked[0].changes,
        failed=[
            {"changes": dict(trial.point), "reason": trial.fit.reason}
            for trial in search.trials
            if isinstance(trial.fit, FailedFit)
        ],
        dropped=[
            {
                "changes": dict(trial.point),
                "rung": trial.fit.rung,
                "dev_loss": trial.fit.best["dev_loss"],
                "dev_auc": trial.fit.best["dev_auc"],
                "n_steps": trial.fit.history[-1]["step"],
            }
            for trial in search.trials
            if isinstance(trial.fit, DroppedFit)
        ],
        n_steps=_count_steps(search.trials),
        optimism=selection_optimism([t.table for t in search.trials if t.table is not None], config.seed),
        n_dev_clips=len(splits.clips[DEV]),
        n_dev_groups=len({clip.group for clip in splits.clips[DEV]}),
        sampled=sampled,
    )


def _require_dev_groups(splits: Splits, fold: str) -> None:
    for label in LABELS:
        groups = sorted({clip.group for clip in splits.clips[DEV] if clip.label == label})
        if len(groups) < 2:
            raise ManifestError(
                f"search{f' {fold}' if fold else ''}: dev has one {label} group ({', '.join(groups)}), but a second "
                "must judge the threshold it chose; add groups, or raise data.dev_share (in folds "
                "leave_one_out.dev_speakers)."
            )


def _grid(config: Config) -> Sequence[Changes]:
    points = config.search.grid
    if not points:
        raise ConfigError(
            "there is nothing to search: search.grid is empty and search.sampled.trials is 0; give at least one point, "
            "such as {lora.rank: 16}, or a number of trials."
        )
    if len(points) > config.search.most_points:
        raise ConfigError(
            f"search.grid has {len(points)} points, more than search.most_points ({config.search.most_points}); "
            "search.sampled finds a good one with fewer, or raise search.most_points if you mean it."
        )
    return points


class _Search:
    """The points tried so far, and what trains and judges more of them."""

    def __init__(self, config: Config, trainer: Trainer, splits: Splits, fold: str) -> None:
        self.config, self.trainer, self.splits = config, trainer, splits
        self.place = f"{fold}-search" if fold else "search"
        self.trials: list[Trial] = []

    def judge(self, points: Sequence[Changes]) -> list[float | DroppedFit | None]:
        """Train these points together and judge them; returns Trial.value of each."""
        names = [f"{self.place}-{number}" for number in range(len(self.trials) + 1, len(self.trials) + len(points) + 1)]
        for name, point in zip(names, points, strict=True):
            check_changes(name, point)
        configs = [change_config(self.config, point, name) for name, point in zip(names, points, strict=True)]
        requests = [
            FitRequest(name, config, self.splits, self.config, bracket)
            for name, config, bracket in zip(names, configs, self._brackets(configs), strict=True)
        ]
        fits = self.trainer.fit_all(requests)
        done = [(config, fit) for config, fit in zip(configs, fits, strict=True) if isinstance(fit, FinishedFit)]
        conditions = self.config.evaluation.conditions
        tables = score_fits(done, self.trainer, self.splits, DEV, conditions, self.config, "search-dev")
        judged = []
        for point, config, fit in zip(points, configs, fits, strict=True):
            table = tables[fit.folder] if isinstance(fit, FinishedFit) else None
            objective = None if table is None else cross_fitted_balanced_accuracy(table)
            judged.append(Trial(point, config, fit, table, objective))
        self.trials += judged
        return [trial.value for trial in judged]

    def _brackets(self, configs: Sequence[Config]) -> list[Bracket | None]:
        """The bracket of each trial of a sampled search: as many as a stack holds, in the order they were drawn."""
        sampled = self.config.search.sampled
        if not sampled.trials or not sampled.rungs:
            return [None] * len(configs)
        size, n_alike = self.config.train.stack, dict[str, int]()
        brackets: list[Bracket | None] = []
        for config in configs:
            alike = identity(**config.model_dump(mode="json", include={"prompt", "short_clips"}))
            number = n_alike.setdefault(alike, 0)
            n_alike[alike] += 1
            brackets.append(Bracket(f"{alike[:16]}-{number // size}", sampled.rungs, sampled.keep_share))
        return brackets


def _count_steps(trials: Sequence[Trial]) -> dict[Literal["trained", "trained_whole"], int]:
    """Optimiser steps of all but the failed, and what they would be were none dropped."""
    done = sum(trial.fit.record["n_steps"] for trial in trials if isinstance(trial.fit, FinishedFit))
    dropped = [(trial.config, trial.fit.history) for trial in trials if isinstance(trial.fit, DroppedFit)]
    return {
        "trained": done + sum(history[-1]["step"] for _, history in dropped),
        "trained_whole": done + sum(config.train.epochs * history[0]["step"] for config, history in dropped),
    }


def selection_optimism(tables: Sequence[ScoreTable], seed: int, n_resamples: int = N_RESAMPLES) -> Optimism:
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
        if any(len(set(tables[0].is_speech[rows].tolist())) < 2 for rows in (inside, ~inside)):
            continue
        best = max(
            ((_value(table, inside, inside), i) for i, table in enumerate(tables)),
            key=lambda found: (found[0], -found[1]),
        )
        chosen.append(best[0])
        left_out.append(_value(tables[best[1]], inside, ~inside))
    if not chosen:
        return Optimism(chosen=None, left_out=None, optimism=None)
    means = float(np.mean(chosen)), float(np.mean(left_out))
    return Optimism(chosen=means[0], left_out=means[1], optimism=means[0] - means[1])


def _value(table: ScoreTable, choosing: Bools, judged: Bools) -> float:
    threshold = choose_threshold(table.select(choosing)).value
    return balanced_accuracy(decide(table.score[judged], threshold), table.is_speech[judged])
