"""The ladder: every arm beside the others, its seeds apart.

An arm's number is the mean over its seeds. Two things make it uncertain and both are told: the seeds (t interval over
their values: at three seeds 2.48 standard deviations) and the clips (the interval of the median seed by dev loss, which
counts groups). An arm is compared with the first one by their median seeds, on the same clips.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from typing import Any

import numpy as np
from scipy.special import stdtrit

from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.intervals import CONFIDENCE, balanced_accuracy_interval
from listenwell.evaluate.methods import NOISY, versions
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.arms import Arm
from listenwell.fits.fitting import FinishedFit

CLEAN = "clean"
SHOWN = (CLEAN, NOISY)
Fits = Sequence[tuple[Arm, FinishedFit]]


def median_seed(fits: Fits) -> tuple[Arm, FinishedFit]:
    """The fit with the median lowest dev loss; of an even number, the better of the middle two."""
    ranked = sorted(fits, key=lambda pair: (_dev_loss(pair[1]), pair[0].seed))
    return ranked[(len(ranked) - 1) // 2]


def _dev_loss(fit: FinishedFit) -> float:
    value: float = fit.record["history"][fit.record["best_epoch"] - 1]["dev_loss"]
    return value


def judge_ladder(
    fits: Fits,
    tables: Mapping[str, Mapping[str, ScoreTable]],
    thresholds: Mapping[str, Threshold],
    method_of: Mapping[str, str],
    test_sets: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """One record per arm, test set and condition (clean, and all noisy ones together), arms in their order.

    A single fit makes no ladder. tables: part -> method -> scores; method_of: fit name -> method.
    """
    if len(fits) < 2:
        return []
    by_arm = fits_by_arm(fits)
    first, records = next(iter(by_arm)), []
    for place, table, decided in decide_by_arm(by_arm, tables, thresholds, method_of, test_sets):
        of_first = decided[first][median_seed(by_arm[first])[0].seed]
        for name, own in by_arm.items():
            typical = decided[name][median_seed(own)[0].seed]
            against = compare_balanced_accuracy(typical, of_first, table.is_speech, table.group, seed)
            records.append(
                {
                    "arm": name,
                    **place,
                    **describe_seeds(own, decided[name], table),
                    "against": None if name == first else {"arm": first, **asdict(against)},
                }
            )
    return records


def fits_by_arm(fits: Fits) -> dict[str, Fits]:
    """Arm -> its fits, in their order."""
    return {name: [pair for pair in fits if pair[0].name == name] for name in dict.fromkeys(a.name for a, _ in fits)}


def decide_by_arm(
    by_arm: Mapping[str, Fits],
    tables: Mapping[str, Mapping[str, ScoreTable]],
    thresholds: Mapping[str, Threshold],
    method_of: Mapping[str, str],
    test_sets: Sequence[str],
) -> Iterator[tuple[dict[str, str], ScoreTable, dict[str, dict[int, Bools]]]]:
    """Yield every test set and condition of SHOWN, one of its tables, and the decisions: arm -> seed -> (n,)."""
    for test_set in test_sets:
        cut = {name: versions(table) for name, table in tables[test_set].items()}
        for condition in SHOWN:
            if condition not in next(iter(cut.values())):
                continue
            decided = {
                name: {
                    arm.seed: decide(cut[method][condition].score, thresholds[method].value)
                    for arm, _ in own
                    for method in [method_of[arm.fit_name]]
                }
                for name, own in by_arm.items()
            }
            one_arm, _ = next(iter(by_arm.values()))[0]
            yield {"test_set": test_set, "condition": condition}, cut[method_of[one_arm.fit_name]][condition], decided


def describe_seeds(own: Fits, decided: Mapping[int, Bools], table: ScoreTable) -> dict[str, Any]:
    """One arm's balanced accuracy: every seed's, their mean and spread, and the median seed's interval."""
    values = [balanced_accuracy(found, table.is_speech) for found in decided.values()]
    typical = decided[median_seed(own)[0].seed]
    return {
        "seeds": list(decided),
        "values": values,
        "mean": float(np.mean(values)),
        "seed_half_width": _half_width(values),
        "median_seed": asdict(balanced_accuracy_interval(typical, table.is_speech, table.group)),
    }


def _half_width(values: Sequence[float]) -> float | None:
    """Half of the t interval of the mean over seeds; None with one seed."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / sqrt(len(values)))
