"""Compare two detectors on the same clips: the difference of their balanced accuracies, by group.

With a, b in {0, 1} for "method A (B) is right", d_c the mean of a - b over the N_c clips of class c, the difference
is (d_speech + d_nonspeech) / 2. Interval: its standard error over groups, by linearisation (Cochran 1977, chapter 6),
    z_g = sum_c (sum_{i in g, c} (a_i - b_i) - d_c n_gc) / (2 N_c),
    var = sum_strata k / (k - 1) sum_g (z_g - mean z)^2,
strata = speech groups, non-speech groups, groups of both; times t with (groups of the smaller class - 1) degrees of
freedom. Simulated coverage of the nominal 95 % at 10 + 20, 6 + 15 and 30 + 30 groups: .91 to .99, where the
percentile cluster bootstrap has .86 to .96. p value: paired cluster permutation, the two methods exchanged within
whole groups, exact for few groups (a random p value counts itself: Phipson & Smyth 2010, SAGMB 9:39).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from listenwell.errors import ManifestError
from listenwell.evaluate.intervals import CONFIDENCE, FEW_GROUPS, Groups
from listenwell.evaluate.metrics import Bools, Floats, require_classes
from listenwell.random_streams import stream

N_PERMUTATIONS = 10_000
MOST_GROUPS_EXACT = 13
"""Up to this many differing groups all 2^k sign patterns are counted."""


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

    All arrays (n,). Where no spread between groups is seen, nothing is known of other groups, and the interval is
    [-1, 1]. Raises ManifestError when the lengths differ or a class is missing.
    """
    lengths = [len(array) for array in (a_says_speech, b_says_speech, is_speech, group)]
    if len(set(lengths)) > 1:
        raise ManifestError(
            f"comparison: {lengths} values; both methods must decide on the same clips, score them again."
        )
    require_classes(is_speech, "comparison")
    gain = (a_says_speech == is_speech).astype(np.float64) - (b_says_speech == is_speech)
    names, member = np.unique(group, return_inverse=True)
    gains = _by_group(gain, is_speech, member, names.size)
    counts = _by_group(np.ones_like(gain), is_speech, member, names.size)
    contributions = (gains / counts.sum(axis=0)).sum(axis=1) / 2
    difference = float(contributions.sum())
    error = _standard_error(gains, counts)
    half = error * _t_quantile(counts) if error > 0 else 2.0
    return PairedDifference(
        difference,
        max(-1.0, difference - half),
        min(1.0, difference + half),
        permutation_p_value(contributions, seed),
        len(gain),
        names.size,
        "linearised standard error over groups, t; paired cluster permutation",
        _note(gain, error, names.size, counts),
    )


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
    flips = stream(seed, "permutation").integers(0, 2, size=(N_PERMUTATIONS, k))
    n_extreme = int(np.sum(np.abs((1 - 2 * flips) @ differing) >= observed))
    return (n_extreme + 1) / (N_PERMUTATIONS + 1)


def _by_group(values: Floats, is_speech: Bools, member: NDArray[np.intp], n_groups: int) -> Floats:
    """Return the sums of `values` (n,) per group and class, (n_groups, 2), column 0 SPEECH."""
    return np.stack(
        [np.bincount(member, weights=values * rows, minlength=n_groups) for rows in (is_speech, ~is_speech)], 1
    )


def _standard_error(gains: Floats, counts: Floats) -> float:
    """Return the standard error of the difference over groups; gains, counts: (n_groups, 2)."""
    totals = counts.sum(axis=0)
    residuals = ((gains - counts * gains.sum(axis=0) / totals) / totals).sum(axis=1) / 2
    variance, holds = 0.0, counts > 0
    for kind in ((True, False), (False, True), (True, True)):
        stratum = residuals[(holds == kind).all(axis=1)]
        if stratum.size > 1:
            variance += stratum.size * float(np.var(stratum, ddof=1))
    return float(np.sqrt(variance))


def _t_quantile(counts: Floats) -> float:
    fewest = int((counts > 0).sum(axis=0).min())
    return float(stdtrit(max(fewest - 1, 1), 0.5 + CONFIDENCE / 2))


def _note(gain: Floats, spread: float, n_groups: int, counts: Floats) -> str:
    if not gain.any():
        return "the two methods never differ in being right, so the width of the interval is unknown"
    if spread == 0:
        return "no spread between groups was seen, so the width of the interval is unknown"
    if (counts > 0).sum(axis=0).min() == 1:
        return "one group in a class says nothing about other groups, the interval is too narrow"
    return f"only {n_groups} groups, the interval is rough" if n_groups < FEW_GROUPS else ""
