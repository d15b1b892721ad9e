"""The ladder: every arm beside the others, its seeds apart.

An arm's number is the mean over its seeds. Two things make it uncertain and both are told: the seeds (t interval over
their values: at three seeds 2.48 standard deviations) and the clips (the interval of the median seed by dev loss, which
counts groups). An arm is compared with the first one by their median seeds, on the same clips.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.intervals import CONFIDENCE, balanced_accuracy_interval
from listenwell.evaluate.methods import NOISY, versions
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.fits.fitting import TrainedArm, median_seed
from listenwell.judge.scored import Scored
from listenwell.report.results import AgainstFirst, LadderRow

SHOWN = (CLEAN, NOISY)


def judge_ladder(arms: Sequence[TrainedArm], scored: Scored, seed: int) -> list[LadderRow]:
    """One record per arm, test set and condition (clean, and all noisy ones together), arms in their order.

    A single fit makes no ladder.
    """
    if len(arms) < 2:
        return []
    return [
        record
        for test_set in scored.test_sets
        for condition in SHOWN
        for record in _judge_condition(arms, scored, test_set, condition, seed)
    ]


def _judge_condition(
    arms: Sequence[TrainedArm], scored: Scored, test_set: str, condition: str, seed: int
) -> list[LadderRow]:
    tables = {arm.method: versions(scored.tables[test_set][arm.method]) for arm in arms}
    if condition not in tables[arms[0].method]:
        return []
    table = tables[arms[0].method][condition]
    decided = {method: decide(cut[condition].score, scored.thresholds[method].value) for method, cut in tables.items()}
    first = arms[0].arm.name
    records = []
    for name in dict.fromkeys(arm.arm.name for arm in arms):
        seeds = [arm for arm in arms if arm.arm.name == name]
        typical = decided[median_seed(seeds).method]
        of_first = decided[median_seed([arm for arm in arms if arm.arm.name == first]).method]
        values = [balanced_accuracy(decided[arm.method], table.is_speech) for arm in seeds]
        against = compare_balanced_accuracy(typical, of_first, table.is_speech, table.group, seed)
        records.append(
            LadderRow(
                arm=name,
                test_set=test_set,
                condition=condition,
                seeds=[arm.arm.seed for arm in seeds],
                values=values,
                mean=float(np.mean(values)),
                seed_half_width=_half_width(values),
                median_seed=balanced_accuracy_interval(typical, table.is_speech, table.group),
                against=None if name == first else AgainstFirst(arm=first, **asdict(against)),
            )
        )
    return records


def _half_width(values: Sequence[float]) -> float | None:
    """Half of the t interval of the mean over seeds; None with one seed."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / sqrt(len(values)))
