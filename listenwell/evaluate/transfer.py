"""Did the threshold that dev chose fit the test? Measured after the fact, never used to choose.

The oracle is the threshold that the same criterion would have chosen on the test itself. Shift: threshold minus
oracle, in logits; scores that are probabilities are turned into logits for it. Its interval: percentiles over draws of
test groups, the dev threshold held as it was committed. Where the curve is flat the oracle lies anywhere: the shift is
poorly known, and the regret says what that costs.

Regret: the balanced accuracy that the best threshold reaches above that of the dev threshold. A threshold fitted to
these very clips always does at least as well, so the best one is cross-fitted: every part of the groups is decided at
the threshold that is best on the others. That one is noisy and reads a little low, so the truth lies between the two:
the interval reaches from the lower end of the paired difference to the cross-fitted decisions to the upper end of that
to the fitted ones. It reads below 0 where the dev threshold does better than what the test itself can find.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from listenwell.evaluate.calibration import (
    BALANCED_ACCURACY,
    Threshold,
    best_threshold,
    parse_criterion,
    percentile_metric,
)
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.intervals import Metric, group_parts
from listenwell.evaluate.metrics import Floats, decide
from listenwell.evaluate.power import Verdict, judge_within
from listenwell.evaluate.scores import ScoreTable

MOST_PARTS = 20
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
    oracle, _ = best_threshold(test.score, test.is_speech, criterion)
    ours, best = (float(to_logit(np.asarray(value))) for value in (threshold.value, oracle))
    drawn = percentile_metric(
        "threshold_shift", ours - best, test, criterion, seed, "transfer", lambda oracles: ours - to_logit(oracles)
    )
    shift = replace(drawn, low=min(drawn.value, drawn.low), high=max(drawn.value, drawn.high))
    verdict = judge_within(shift, LARGEST_SHIFT)
    return Transfer(threshold.value, oracle, shift, measure_regret(threshold.value, test, seed), verdict)


def measure_regret(threshold: float, test: ScoreTable, seed: int) -> Metric:
    """Return the cross-fitted regret of `threshold` in balanced accuracy.

    With one group in a class nothing is known of others: [-1, 1]. Raises ManifestError when a class is missing.
    """
    says_speech = decide(test.score, threshold)
    at_best = says_speech.copy()
    for held_out in group_parts(test.group, test.is_speech, MOST_PARTS, seed, "regret"):
        best, _ = best_threshold(test.score[~held_out], test.is_speech[~held_out], BALANCED_ACCURACY)
        at_best[held_out] = decide(test.score[held_out], best)
    fitted = decide(test.score, best_threshold(test.score, test.is_speech, BALANCED_ACCURACY)[0])
    gain, most = (
        compare_balanced_accuracy(best, says_speech, test.is_speech, test.group, seed) for best in (at_best, fitted)
    )
    method = "cross-fitted over groups; paired difference"
    return Metric("regret", gain.difference, gain.low, most.high, gain.n, gain.n_groups, method, gain.note)
