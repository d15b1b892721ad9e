"""The second stage of a study: search, every arm with every seed, and the folds that leave speakers out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from listenwell.config import Config
from listenwell.errors import TrainingError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.arms import FINAL, expand_arms
from listenwell.fits.fitting import FinishedFit, Trained, TrainedArm, Trainer, median_seed
from listenwell.fits.request import FitRequest
from listenwell.splits.divide import Splits
from listenwell.study.leave_one_out import run_leave_one_out
from listenwell.study.search import run_search
from listenwell.train.fit import FailedFit


def train_fits(config: Config, splits: Splits, trainer: Trainer) -> Trained:
    """Train, or read back, what the study needs; the median seed of the config itself is delivered."""
    searched = run_search(config, trainer, splits) if config.search.is_wanted else None
    best = searched.best if searched else None
    arms, failed = train_arms(config, best, splits, trainer)
    folds = run_leave_one_out(config, best, trainer, splits) if config.leave_one_out.arms else []
    return Trained(trainer.model, arms, failed, searched, folds)


def train_arms(
    config: Config, search_best: Mapping[str, Any] | None, splits: Splits, trainer: Trainer
) -> tuple[list[TrainedArm], list[dict[str, str]]]:
    """Every arm with every seed, trained or read back, and those that failed.

    Raises TrainingError when no fit of the config itself ended well: there is nothing to deliver.
    """
    arms = expand_arms(config, search_best)
    names = [FINE_TUNED if arm.name == FINAL else arm.fit_name for arm in arms]
    requests = [FitRequest(name, arm.config, splits, config) for name, arm in zip(names, arms, strict=True)]
    fits = list(zip(arms, trainer.fit_all(requests), strict=True))
    trained = [TrainedArm(arm, fit, arm.fit_name) for arm, fit in fits if isinstance(fit, FinishedFit)]
    failed = [{"name": arm.fit_name, "reason": fit.reason} for arm, fit in fits if isinstance(fit, FailedFit)]
    final = [arm for arm in trained if arm.arm.name == FINAL]
    if not final:
        raise TrainingError(" ".join(record["reason"] for record in failed))
    delivered = median_seed(final)
    return [replace(arm, method=FINE_TUNED) if arm is delivered else arm for arm in trained], failed
