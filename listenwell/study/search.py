"""Search settings: every point tried is a fit, dev alone judges, and the winner's advantage is not believed.

The objective is balanced accuracy on dev with a threshold that other dev groups chose (cross-fitted), ties broken by
the lower dev loss. Trials of a sampled search that train together run a race (listenwell.fits.halving); one that ended
at a rung has no objective and is told apart. The best of many equal configs looks better than it is; how much is
estimated by drawing dev groups again: choose on the drawn groups, judge on those left out, and compare (bootstrap
optimism, Efron 1983).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from listenwell.config import Config, change_config
from listenwell.data.clip import LABELS, clip_hashes
from listenwell.errors import ConfigError, ManifestError, TrainingError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_balanced_accuracy
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.arms import check_changes
from listenwell.fits.fitting import FinishedFit, fit_all
from listenwell.fits.halving import DroppedFit
from listenwell.fits.request import FitRequest, Race
from listenwell.judge.detectors import language_model_detectors
from listenwell.judge.score import SCORING_VERSION, load_or_make_scores, score_clips
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream
from listenwell.splits.divide import DEV, Parts
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.fit import FailedFit
from listenwell.train.fit_underway import Progress

N_RESAMPLES = 200


def run_search(
    config: Config,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_progress: OnProgress = ignore_progress,
    fold: str = "",
) -> dict[str, Any]:
    """Train and judge the points of search.grid, or those search.sampled draws.

    fold: the name of the fold whose training groups search, where they do. Returns the ranked points, the best, those
    dropped at a rung, the steps this saved, the selection optimism and, of a sampled search, what it learned. Raises
    ConfigError when nothing is to be tried or it is too much, TrainingError when every fit failed.
    """
    _require_dev_groups(parts, fold)
    trials = Trials(config, model, parts, run, on_step, on_progress, fold)
    sampled = None
    if config.search.sampled.trials:
        # Optuna takes a second to load, and few studies need it
        from listenwell.study.sampled_search import draw_and_judge

        sampled = draw_and_judge(config, trials.judge, None if fold else run.optuna)
    else:
        trials.judge(_grid(config))
    if not trials.tables:
        raise TrainingError("every fit of the search left the finite numbers; lower the learning rates.")
    ranked = sorted(trials.judged, key=lambda point: (-point["objective"], point["dev_loss"]))
    return {
        "ranked": ranked,
        "best": ranked[0]["changes"],
        "failed": trials.failed,
        "dropped": trials.dropped,
        "n_steps": {"trained": trials.n_steps, "trained_whole": trials.n_steps_whole},
        "optimism": selection_optimism(trials.tables, config.seed),
        "n_dev_clips": len(parts.clips[DEV]),
        "n_dev_groups": len({clip.group for clip in parts.clips[DEV]}),
        "sampled": sampled,
    }


def _require_dev_groups(parts: Parts, fold: str) -> None:
    for label in LABELS:
        groups = sorted({clip.group for clip in parts.clips[DEV] if clip.label == label})
        if len(groups) < 2:
            raise ManifestError(
                f"search{f' {fold}' if fold else ''}: dev has one {label} group ({', '.join(groups)}), but a second "
                "must judge the threshold it chose; add groups, or raise data.dev_share (in folds loso.dev_speakers)."
            )


def _grid(config: Config) -> Sequence[Mapping[str, Any]]:
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


class Trials:
    """The points tried so far: the record, or the reason, and the dev scores of each that ended well.

    n_steps: optimiser steps of all but the failed; n_steps_whole: what they would take were none dropped.
    """

    def __init__(
        self,
        config: Config,
        model: AudioLanguageModel,
        parts: Parts,
        run: RunFolder,
        on_step: Callable[[Progress], None],
        on_progress: OnProgress,
        fold: str = "",
    ) -> None:
        self.fold = fold
        self.config, self.model, self.parts, self.run = config, model, parts, run
        self.on_step, self.on_progress = on_step, on_progress
        self.n_points = 0
        self.judged: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.tables: list[ScoreTable] = []
        self.n_steps = self.n_steps_whole = 0

    def judge(self, points: Sequence[Mapping[str, Any]]) -> list[float | DroppedFit | None]:
        """Train these points together and judge them; returns the objective of each, None where its fit failed."""
        place = f"{self.fold}-search" if self.fold else "search"
        names = [f"{place}-{self.n_points + number}" for number in range(1, len(points) + 1)]
        self.n_points += len(points)
        for name, point in zip(names, points, strict=True):
            check_changes(name, point)
        configs = [change_config(self.config, point, name) for name, point in zip(names, points, strict=True)]
        requests = [
            FitRequest(name, each, self.parts, self.config, race)
            for name, each, race in zip(names, configs, self._races(configs), strict=True)
        ]
        fits = fit_all(requests, self.model, self.run, self.on_step)
        done = {i: fit for i, fit in enumerate(fits) if isinstance(fit, FinishedFit)}
        tables = _dev_tables(self.config, configs, done, self.model, self.parts, self.on_progress)
        records = {i: _judge(points[i], done[i], tables[i]) for i in done}
        self.judged += records.values()
        self.tables += [tables[i] for i in done]
        self.failed += [
            {"changes": dict(points[i]), "reason": fit.reason}
            for i, fit in enumerate(fits)
            if isinstance(fit, FailedFit)
        ]
        lost = {i: fit for i, fit in enumerate(fits) if isinstance(fit, DroppedFit)}
        self.dropped += [_describe_dropped(points[i], fit) for i, fit in lost.items()]
        self._count_steps(configs, done, lost)
        values: dict[int, float | DroppedFit] = {i: record["objective"] for i, record in records.items()} | lost
        return [values[i] if i in values else None for i in range(len(points))]

    def _races(self, configs: Sequence[Config]) -> list[Race | None]:
        """The race of each trial of a sampled search: as many as a stack holds, in the order they were drawn."""
        sampled = self.config.search.sampled
        if not sampled.trials or not sampled.rungs:
            return [None] * len(configs)
        size, n_alike = self.config.train.stack, dict[str, int]()
        races: list[Race | None] = []
        for config in configs:
            alike = identity(**config.model_dump(mode="json", include={"prompt", "short_clips"}))
            number = n_alike.setdefault(alike, 0)
            n_alike[alike] += 1
            races.append(Race(f"{alike[:16]}-{number // size}", sampled.rungs, sampled.keep_share))
        return races

    def _count_steps(
        self, configs: Sequence[Config], done: Mapping[int, FinishedFit], lost: Mapping[int, DroppedFit]
    ) -> None:
        trained_whole = sum(fit.record["n_steps"] for fit in done.values())
        self.n_steps += trained_whole + sum(fit.history[-1]["step"] for fit in lost.values())
        per_epoch = {i: fit.history[0]["step"] for i, fit in lost.items()}
        self.n_steps_whole += trained_whole + sum(configs[i].train.epochs * per_epoch[i] for i in lost)


def _describe_dropped(changes: Mapping[str, Any], fit: DroppedFit) -> dict[str, Any]:
    return {
        "changes": dict(changes),
        "rung": fit.rung,
        "dev_loss": fit.best["dev_loss"],
        "dev_auc": fit.best["dev_auc"],
        "n_steps": fit.history[-1]["step"],
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
    """Dev scores of every fit under all conditions of the study; those kept beside a fit are read back."""
    places = {i: fit.folder / "scores" / "search-dev.csv" for i, fit in done.items()}
    made_from = {
        "version": SCORING_VERSION,
        "clips": clip_hashes(parts.clips[DEV]),
        "backgrounds": parts.banks[DEV].hashes,
        "conditions": list(config.evaluation.conditions),
        "scoring.batch_seconds": config.scoring.batch_seconds,
        "seed": config.seed,
    }

    def score(missing: Sequence[int]) -> list[ScoreTable]:
        detectors = language_model_detectors(model, [(str(i), configs[i], done[i].adapter) for i in missing])
        tables = score_clips(
            detectors, parts.clips[DEV], parts.banks[DEV], config.evaluation.conditions, config, on_progress,
            "judging dev",
        )  # fmt: skip
        return [tables[str(i)] for i in missing]

    return load_or_make_scores(places, made_from, score)


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
