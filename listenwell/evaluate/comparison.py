"""Compare two detectors on the same clips: the difference of their balanced accuracies, by group.

With a, b in {0, 1} for "method A (B) is right", d_c the mean of a - b over the N_c clips of class c, the difference
is (d_speech + d_nonspeech) / 2. Interval: its standard error over groups, by linearisation (Cochran 1977, chapter 6),
    z_g = sum_c (sum_{i in g, c} (a_i - b_i) - d_c n_gc) / (2 N_c),
    var = sum_strata k / (k - 1) sum_g (z_g - mean z)^2,
strata = speech groups, non-speech groups, groups of both; times t with (groups of the smaller class - 1) degrees of
freedom. Simulated coverage of the nominal 95 % at 10 + 20, 6 + 15 and 30 + 30 groups: .91 to .99, where the
percentile cluster bootstrap has .86 to .96. p value: paired cluster permutation, the two methods exchanged within
whole groups, exact for few groups (a random p value counts itself: Phipson & Smyth 2010, SAGMB 9:39).

`mcnemar_exact` (is A more often right?) and `delong` (do the AUCs differ?) count every clip as independent, so with
several clips per group their p values are too small: they stand beside the permutation, never instead of it. All p
values are two-sided; `holm` corrects a declared family.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import bdtr, ndtr, ndtri

from listenwell.evaluate.intervals import (
    CONFIDENCE,
    FEW_GROUPS,
    PLANNING_ICC,
    Groups,
    class_sums,
    effective_n,
    number_groups,
    stratified_error,
    t_quantile,
    wilson,
)
from listenwell.evaluate.metrics import Bools, Floats, require_classes, roc_auc
from listenwell.evaluate.ranking import placements
from listenwell.random_streams import stream

N_PERMUTATIONS = 10_000
MOST_GROUPS_EXACT = 13
"""Up to this many differing groups all 2^k sign patterns are counted."""
SIGNS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Balanced accuracy of A minus that of B with its 95 % interval and two-sided permutation p value."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_groups: int
    method: str
    note: str = ""


def compare_balanced_accuracy(
    a_says_speech: Bools, b_says_speech: Bools, is_speech: Bools, group: Groups, seed: int
) -> PairedDifference:
    """Return how much more balanced accuracy method A has than B on the same n clips.

    All arrays (n,). Methods that never differ in being right could still do so on other clips: by at most the upper
    bound of Wilson's interval of 0 among as many clips as these groups are worth, in each class. Where a class has one
    group, or differences show no spread between groups, nothing is known of other groups, and the interval is [-1, 1].
    Raises ManifestError when a class is missing.
    """
    require_classes(is_speech, "comparison")
    gain = (a_says_speech == is_speech).astype(np.float64) - (b_says_speech == is_speech)
    member, n_groups = number_groups(group)
    gains = class_sums(gain, is_speech, member, n_groups)
    counts = class_sums(np.ones_like(gain), is_speech, member, n_groups)
    contributions = (gains / counts.sum(axis=0)).sum(axis=1) / 2
    difference = float(contributions.sum())
    totals = counts.sum(axis=0)
    deviations = ((gains - counts * gains.sum(axis=0) / totals) / totals).sum(axis=1) / 2
    error = stratified_error(deviations, counts)
    fewest = int((counts > 0).sum(axis=0).min())
    half = _half_width(gain, error, counts, fewest)
    return PairedDifference(
        difference,
        max(-1.0, difference - half),
        min(1.0, difference + half),
        permutation_p_value(contributions, seed),
        len(gain),
        n_groups,
        "linearised standard error over groups, t; paired cluster permutation",
        _note(gain, error, n_groups, fewest),
    )


def _half_width(gain: Floats, error: float, counts: Floats, fewest: int) -> float:
    """Half of the interval; 2, which covers everything, where nothing is known of other groups."""
    if fewest == 1:
        return 2.0
    if error > 0:
        return error * t_quantile(fewest)
    if gain.any():
        return 2.0
    sizes = [own[own > 0] for own in counts.T]
    differing = [wilson(0.0, float(effective_n(own, PLANNING_ICC)), t_quantile(own.size))[1] for own in sizes]
    return sum(differing) / 2


def permutation_p_value(contributions: Floats, seed: int) -> float:
    """Return the two-sided p value of sum(contributions) when each group's sign is as likely + as -.

    contributions: (n_groups,). Exact up to MOST_GROUPS_EXACT groups that differ from 0, random above.
    """
    differing = contributions[contributions != 0]
    k = differing.size
    observed = abs(differing.sum()) - 1e-12
    if k <= MOST_GROUPS_EXACT:
        flips = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
        return float(np.mean(np.abs((1 - 2 * flips) @ differing) >= observed))
    rng, n_extreme = stream(seed, "permutation"), 0
    at_once = max(1, SIGNS_AT_ONCE // k)
    for done in range(0, N_PERMUTATIONS, at_once):
        flips = rng.integers(0, 2, size=(min(at_once, N_PERMUTATIONS - done), k), dtype=np.int8)
        n_extreme += int(np.sum(np.abs((1.0 - 2.0 * flips) @ differing) >= observed))
    return (n_extreme + 1) / (N_PERMUTATIONS + 1)


def _note(gain: Floats, error: float, n_groups: int, fewest: int) -> str:
    if fewest == 1:
        return "one group in a class says nothing about other groups, so the width of the interval is unknown"
    if not gain.any():
        return "the two methods never differ in being right; the interval is what so many clips leave possible"
    if error == 0:
        return "no spread between groups was seen, so the width of the interval is unknown"
    return f"only {n_groups} groups, the interval is rough" if n_groups < FEW_GROUPS else ""


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

    Each class needs two clips. Where the difference has no spread, p is 1 for equal AUCs and the interval is None.
    """
    require_classes(is_speech, "DeLong's test")
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
