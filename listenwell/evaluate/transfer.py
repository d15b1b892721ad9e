"""Did the threshold that dev chose fit the test? Measured after the fact, never used to choose.

The oracle is the threshold that the same criterion would have chosen on the test itself. Shift: threshold minus
oracle, in logits; scores that are probabilities are turned into logits for it. Regret: the balanced accuracy that the
best threshold on the test would have had above that of the dev threshold; the oracle is fitted to these very clips, so
the regret reads a little high. Intervals: percentiles over draws of test groups, the dev threshold held as it was
committed. Where the curve is flat the oracle lies anywhere: the shift is poorly known, and the regret says what that
costs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from listenwell.evaluate.calibration import (
    BALANCED_ACCURACY,
    Criterion,
    Threshold,
    best_threshold,
    curve_cuts,
    parse_criterion,
    percentile_note,
    resampled_choices,
)
from listenwell.evaluate.intervals import GroupedScores, Metric, expanded_tails, group_scores, n_resamples
from listenwell.evaluate.metrics import Floats, balanced_accuracy, decide
from listenwell.evaluate.power import Verdict, judge_within
from listenwell.evaluate.scores import ScoreTable

LARGEST_SHIFT = 0.5
"""The success criterion of the field: dev and test threshold within half a logit."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a dev threshold does on a test set; verdict: is the shift within +-LARGEST_SHIFT?"""

    threshold: float
    oracle: float
    shift: Metric
    regret: Metric
    verdict: Verdict


def measure_transfer(
    threshold: Threshold, test: ScoreTable, seed: int, to_logit: Callable[[Floats], Floats] = np.asarray
) -> Transfer:
    """Measure the transfer of `threshold` to `test`; to_logit: from the unit of the scores.

    Raises ManifestError when a class is missing from `test`.
    """
    criterion = parse_criterion(threshold.criterion)
    scores = group_scores(test.score, test.is_speech, test.group)
    oracle, _ = best_threshold(test.score, test.is_speech, criterion)
    _, best_reached = best_threshold(test.score, test.is_speech, BALANCED_ACCURACY)
    regret = best_reached - balanced_accuracy(decide(test.score, threshold.value), test.is_speech)
    oracles = _drawn_oracles(scores, criterion, seed)
    regrets = _drawn_regrets(scores, threshold.value, seed)
    ours = float(to_logit(np.asarray(threshold.value)))
    shift = _metric(
        "threshold_shift", ours - float(to_logit(np.asarray(oracle))), ours - to_logit(oracles), scores, test
    )
    verdict = judge_within(shift, LARGEST_SHIFT)
    return Transfer(threshold.value, oracle, shift, _metric("regret", regret, regrets, scores, test), verdict)


def _drawn_oracles(scores: GroupedScores, criterion: Criterion, seed: int) -> Floats:
    """The oracle of every draw of the test groups."""
    thresholds = curve_cuts(scores).thresholds
    return np.concatenate([thresholds[at] for at, _, _ in resampled_choices(scores, criterion, seed, "transfer")])


def _drawn_regrets(scores: GroupedScores, threshold: float, seed: int) -> Floats:
    """The regret of `threshold` in balanced accuracy on every draw."""
    n_above = int(np.count_nonzero(scores.lowest >= threshold))
    regrets = []
    for _, fpr, tpr in resampled_choices(scores, BALANCED_ACCURACY, seed, "transfer"):
        reached = (tpr + 1.0 - fpr) / 2
        regrets.append(reached.max(axis=1) - reached[:, n_above])
    return np.concatenate(regrets)


def _metric(name: str, value: float, draws: Floats, scores: GroupedScores, test: ScoreTable) -> Metric:
    low, high = np.quantile(draws, expanded_tails(scores.fewest_groups))
    method = f"{n_resamples(scores.n_groups)} draws of test groups, percentiles"
    return Metric(
        name, value, min(value, float(low)), max(value, float(high)), len(test), scores.n_groups, method,
        percentile_note(scores),
    )  # fmt: skip
