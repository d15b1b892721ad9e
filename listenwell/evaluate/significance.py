"""Tests that stand beside the primary comparison (`comparison`: paired, by group), and what to do with several.

| function | question | independent are |
|---|---|---|
| mcnemar_exact | is A more often right than B on the same clips? | clips |
| delong | do the AUCs of A and B differ on the same clips? | clips |

Both count every clip, so with several clips per group their p values are too small: their place is beside the
paired permutation by group, never instead of it. All p values are two-sided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import bdtr, ndtr, ndtri

from listenwell.errors import ManifestError
from listenwell.evaluate.intervals import CONFIDENCE
from listenwell.evaluate.metrics import Bools, Floats, require_classes, roc_auc
from listenwell.evaluate.ranking import placements


@dataclass(frozen=True, slots=True)
class SideTest:
    """A difference, its p value, its 95 % interval where the test has one, and what it takes for granted."""

    name: str
    difference: float
    p_value: float
    n: int
    assumes: str
    low: float | None = None
    high: float | None = None


def mcnemar_exact(a_is_right: Bools, b_is_right: Bools) -> SideTest:
    """Compare the shares of right decisions on the same n clips by the binomial of the discordant ones."""
    only_a = int(np.count_nonzero(a_is_right & ~b_is_right))
    only_b = int(np.count_nonzero(b_is_right & ~a_is_right))
    p_value = min(1.0, 2.0 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    difference = (only_a - only_b) / len(a_is_right)
    return SideTest("McNemar, exact", difference, p_value, len(a_is_right), "independent clips")


def delong(a_score: Floats, b_score: Floats, is_speech: Bools) -> SideTest:
    """Compare the AUCs of two scores of the same n clips (DeLong et al. 1988, Biometrics 44:837).

    Where the difference has no spread, p is 1 for equal AUCs and the interval is None. Raises ManifestError when a
    class has fewer than two clips.
    """
    require_classes(is_speech, "DeLong's test")
    counts = int(np.count_nonzero(is_speech)), int(np.count_nonzero(~is_speech))
    if min(counts) < 2:
        raise ManifestError(f"DeLong's test: {counts[0]} speech and {counts[1]} other clips; each class needs two.")
    difference = roc_auc(a_score, is_speech) - roc_auc(b_score, is_speech)
    gaps = placements(a_score, is_speech) - placements(b_score, is_speech)
    variance = sum(float(np.var(gaps[rows], ddof=1)) / rows.sum() for rows in (is_speech, ~is_speech))
    name, n, assumes = "DeLong", len(is_speech), "independent clips"
    if variance <= 0:
        return SideTest(name, difference, 1.0 if difference == 0 else 0.0, n, assumes)
    z = abs(difference) / sqrt(variance)
    half = float(ndtri(0.5 + CONFIDENCE / 2)) * sqrt(variance)
    return SideTest(name, difference, float(2.0 * ndtr(-z)), n, assumes, difference - half, difference + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of a declared family corrected by Holm's step-down (1979, Scand. J. Stat. 6:65)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]
