"""95 % intervals that respect groups: clips of one speaker or sound source are not independent.

Proportions: Wilson's interval (1927, JASA 22:209) with the sample size divided by the design effect
    deff = 1 + (m - 1) icc,   m = sum(m_g^2) / n   (Kish 1965; Donner & Klar 2000, section 5.3),
and t with (groups - 1) degrees of freedom in place of the normal quantile. icc is the ANOVA estimate (Ridout,
Demetrio & Firth 1999, Biometrics 55:137); while fewer than ENOUGH_ERRING_GROUPS groups hold the rarer outcome it says
little (0/0 when none does), and the larger of it and a planning value of 0.3 is taken, which the note says.
Balanced accuracy: the two class intervals combined (MOVER: Newcombe 1998, Stat. Med. 17:873; Zou & Donner 2008,
Stat. Med. 27:1693). Simulated coverage: benchmarks/interval_coverage.py, docs/statistics.md. Ranking measures are in
`listenwell.evaluate.ranking`.

Other measures: whole groups are drawn again and again, with replacement within their stratum (speech groups, non-speech
groups, groups of both), one fewer than there are, so that the spread of the draws is not too small (Rao & Wu 1988, JASA
83:231); a stratum of one group stays as it is. A draw is a vector of group weights, and the operating curves of many
draws are one product of weights with the clips counted by group and score level: 2,000 draws of 10^6 clips take
seconds. Above MOST_LEVELS distinct scores, levels of equally many clips stand for them in the draws (never in the
measured value): an AUC moves by less than 1 / (2 MOST_LEVELS).

G groups, K score levels from the highest down; arrays (..., G) are groups of several tables or draws at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtr, stdtrit

from listenwell.evaluate.metrics import Bools, Floats, balanced_accuracy, require_classes
from listenwell.random_streams import stream

CONFIDENCE = 0.95
PLANNING_ICC = 0.3
ENOUGH_ERRING_GROUPS = 10
FEW_GROUPS = 30
N_RESAMPLES = 2000
FEWEST_RESAMPLES = 400
MOST_DRAWN_GROUPS = 100_000_000
MOST_LEVELS = 2048
CURVE_CELLS = 2_000_000
"""Curves are made in chunks of about this many points."""
Groups = NDArray[np.str_] | NDArray[np.intp]
Whole = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured number with its 95 % interval, the clips and groups it rests on, and how the interval was made."""

    name: str
    value: float
    low: float
    high: float
    n: int
    n_groups: int
    method: str
    note: str = ""


def proportion(name: str, is_right: Bools, group: Groups) -> Metric:
    """Return the share of True in `is_right` (n,) with its design-effect Wilson interval.

    With one group nothing is known of other groups, and the interval is [0, 1].
    """
    member, n_groups = number_groups(group)
    share, n_clips = float(np.mean(is_right)), len(is_right)
    if n_groups == 1:
        return Metric(name, share, 0.0, 1.0, n_clips, 1, "none", "one group says nothing about other groups")
    sizes: Floats = np.bincount(member).astype(np.float64)
    rights: Floats = np.bincount(member, weights=is_right).astype(np.float64)
    low, high = share_bounds(rights, sizes)
    note = _planning_note(rights, sizes) if sizes.max() > 1 else ""
    return Metric(name, share, float(low), float(high), n_clips, n_groups, "Wilson, design effect, t", note)


def number_groups(group: Groups) -> tuple[Whole, int]:
    """Return each clip's group as a number from 0 on, (n,), and how many groups there are."""
    if group.dtype.kind == "i":
        names, member = np.unique(group, return_inverse=True)
        return member, names.size
    numbers: dict[str, int] = {}
    listed = [numbers.setdefault(name, len(numbers)) for name in group.tolist()]
    return np.array(listed, dtype=np.intp), len(numbers)


def share_bounds(rights: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Return the interval of the share right; rights (..., G) of sizes (G,) clips are right, G at least 2."""
    n_clips = sizes.sum()
    n_effective = effective_n(sizes, planned_icc(rights, sizes))
    return wilson_bounds(rights.sum(axis=-1) / n_clips, n_effective, t_quantile(sizes.size))


def effective_n(sizes: Floats, icc: Floats | float) -> Floats:
    """Return how many independent clips groups of `sizes` (G,) are worth at this intra-class correlation."""
    mean_size = np.square(sizes).sum() / sizes.sum()
    return np.asarray(sizes.sum() / (1.0 + (mean_size - 1.0) * np.asarray(icc)))


def t_quantile(n_groups: int) -> float:
    """Return the two-sided 95 % quantile of t with n_groups - 1 degrees of freedom, at least one."""
    return float(stdtrit(max(n_groups - 1, 1), 0.5 + CONFIDENCE / 2))


def expanded_tails(n_groups: int) -> tuple[float, float]:
    """Return the percentiles of an interval over draws of n_groups groups: further out the fewer there are.

    Normal tails of the t quantile (Hesterberg 2015, Am. Stat. 69:371): 2.5 and 97.5 % for many groups.
    """
    tail = float(ndtr(-t_quantile(n_groups)))
    return tail, 1.0 - tail


def wilson_bounds(share: Floats, n: Floats, quantile: float) -> tuple[Floats, Floats]:
    """Return Wilson's score interval of a share out of n (n may be a fraction), of any shape."""
    z2 = quantile * quantile
    centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = quantile / (1.0 + z2 / n) * np.sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n))
    return np.maximum(0.0, np.minimum(share, centre - half)), np.minimum(1.0, np.maximum(share, centre + half))


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score interval of one share."""
    low, high = wilson_bounds(np.asarray(share), np.asarray(n), quantile)
    return float(low), float(high)


def planned_icc(rights: Floats, sizes: Floats) -> Floats:
    """Return the intra-class correlation, at least PLANNING_ICC while few groups hold the rarer outcome.

    rights (..., G), sizes (G,).
    """
    estimate = anova_icc(rights, sizes)
    few = _erring_groups(rights, sizes) < ENOUGH_ERRING_GROUPS
    return np.where(few, np.fmax(estimate, PLANNING_ICC), estimate)


def anova_icc(rights: Floats, sizes: Floats) -> Floats:
    """Return the ANOVA estimate of the intra-class correlation of a right/wrong outcome, cut to [0, 1].

    (MSB - MSW) / (MSB + (m0 - 1) MSW), m0 = (n - sum(m_g^2) / n) / (groups - 1). NaN where all outcomes are alike;
    groups of one clip have none, and 0 is returned. rights (..., G), sizes (G,).
    """
    n_clips, n_groups = sizes.sum(), sizes.size
    if sizes.max() <= 1:
        return np.zeros(rights.shape[:-1])
    shares = rights / sizes
    share = rights.sum(axis=-1, keepdims=True) / n_clips
    between = (sizes * np.square(shares - share)).sum(axis=-1) / (n_groups - 1)
    within = (rights * (1.0 - shares)).sum(axis=-1) / (n_clips - n_groups)
    typical_size = (n_clips - np.square(sizes).sum() / n_clips) / (n_groups - 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.clip((between - within) / (between + (typical_size - 1.0) * within), 0.0, 1.0))


def _erring_groups(rights: Floats, sizes: Floats) -> Whole:
    """Return how many groups hold the rarer of the two outcomes."""
    mostly_right = 2.0 * rights.sum(axis=-1) >= sizes.sum()
    return np.asarray(np.where(mostly_right, (rights < sizes).sum(axis=-1), (rights > 0).sum(axis=-1)))


def _planning_note(rights: Floats, sizes: Floats) -> str:
    n_erring = int(_erring_groups(rights, sizes))
    if n_erring >= ENOUGH_ERRING_GROUPS:
        return ""
    rare = "errors" if 2.0 * rights.sum() >= sizes.sum() else "right decisions"
    return (
        f"{rare} in {n_erring} of {sizes.size} groups say little about the correlation within groups, "
        f"{float(planned_icc(rights, sizes)):.2f} is assumed"
    )


def balanced_accuracy_interval(says_speech: Bools, is_speech: Bools, group: Groups) -> Metric:
    """Return balanced accuracy with the MOVER interval of its two halves.

    With r in [l1, u1] and s in [l2, u2]: low = (r + s) / 2 - sqrt((r - l1)^2 + (s - l2)^2) / 2, high likewise.
    The halves are taken as independent: no group should hold clips of both classes.
    """
    value = balanced_accuracy(says_speech, is_speech)
    speech = proportion("recall", says_speech[is_speech], group[is_speech])
    nonspeech = proportion("specificity", ~says_speech[~is_speech], group[~is_speech])
    below = hypot(speech.value - speech.low, nonspeech.value - nonspeech.low) / 2
    above = hypot(speech.high - speech.value, nonspeech.high - nonspeech.value) / 2
    member, n_groups = number_groups(group)
    shared = np.intersect1d(member[is_speech], member[~is_speech]).size
    notes = [
        f"{half.name}: {half.note}" if half.n_groups > 1 else half.note for half in (speech, nonspeech) if half.note
    ]
    if shared:
        notes.append(f"{shared} groups hold both classes, so the two halves are not independent")
    return Metric(
        "balanced_accuracy",
        value,
        max(0.0, value - below),
        min(1.0, value + above),
        len(is_speech),
        n_groups,
        "MOVER of two Wilson intervals, design effect, t",
        "; ".join(notes),
    )


def mean_over_folds(name: str, values: Floats, sizes: Whole) -> Metric:
    """Return the mean of a measure of K folds, each of `sizes` (K,) clips, with its interval.

    Each fold counts once. The error is that of K values, sd / sqrt(K), with t(K - 1), in Wilson's form, which stays
    within [0, 1]. While fewer than ENOUGH_ERRING_GROUPS folds are short of 1, no more is believed than clips that
    correlate within folds as planned (PLANNING_ICC) would tell: folds that are all right do not look certain. Folds
    share training clips, so their values are not quite independent, which no estimate of one run can mend (Bengio &
    Grandvalet 2004, JMLR 5:1089). One fold says nothing about others: [0, 1].
    """
    n_folds, value = values.size, float(np.mean(values))
    if n_folds == 1:
        return Metric(name, value, 0.0, 1.0, int(sizes.sum()), 1, "none", "one fold says nothing about other folds")
    error = float(np.std(values, ddof=1)) / sqrt(n_folds)
    is_trusted = int((values < 1.0).sum()) >= ENOUGH_ERRING_GROUPS
    planned = float(effective_n(sizes.astype(np.float64), PLANNING_ICC))
    low, high = rate_bounds(value, error, planned, n_folds, is_trusted)
    note = "" if is_trusted else "few folds with errors: no narrower than planned for"
    return Metric(name, value, low, high, int(sizes.sum()), n_folds, "t over folds, Wilson's form", note)


def rate_bounds(value: float, error: float, planned_n: float, n_groups: int, trusted: bool) -> tuple[float, float]:
    """Return the interval in [0, 1] of a measure with standard error `error` over groups.

    Wilson's form with n = value (1 - value) / error^2 and t. Where the error is not trusted no more than planned_n
    clips are believed in, and a measure at its limit, where no spread is seen, does not look certain. n_groups: those
    of the smaller class.
    """
    spread = value * (1.0 - value)
    n = spread / (error * error) if error > 0 and spread > 0 else planned_n
    return wilson(value, n if trusted else min(n, planned_n), t_quantile(n_groups))


def class_sums(values: Floats, is_speech: Bools, member: Whole, n_groups: int) -> Floats:
    """Return the sums of `values` (n,) per group and class, (G, 2), column 0 SPEECH."""
    return np.stack(
        [np.bincount(member, weights=values * rows, minlength=n_groups) for rows in (is_speech, ~is_speech)], 1
    )


def stratified_error(contributions: Floats, counts: Floats) -> float:
    """Return the standard error of a sum of group contributions (G,), which is centred within each stratum.

    sqrt(sum_strata k / (k - 1) sum_g (z_g - mean z)^2), strata = speech groups, non-speech groups, groups of both
    (Cochran 1977, chapter 6). counts (G, 2): clips of each class. A stratum of one group adds nothing.
    """
    variance, holds = 0.0, counts > 0
    for kind in ((True, False), (False, True), (True, True)):
        stratum = contributions[(holds == kind).all(axis=1)]
        if stratum.size > 1:
            variance += stratum.size * float(np.var(stratum, ddof=1))
    return sqrt(variance)


@dataclass(frozen=True, slots=True)
class GroupedScores:
    """Clips counted by score level and group, ready to be resampled.

    speech, nonspeech: (K, G). counts: clips of each class, (G, 2). lowest, highest: scores within each level, (K,).
    """

    speech: csr_matrix
    nonspeech: csr_matrix
    counts: Floats
    lowest: Floats
    highest: Floats

    @property
    def n_groups(self) -> int:
        """G."""
        return len(self.counts)

    @property
    def fewest_groups(self) -> int:
        """Groups of the class that has fewer."""
        return int((self.counts > 0).sum(axis=0).min())


def group_scores(score: Floats, is_speech: Bools, group: Groups, most_levels: int = MOST_LEVELS) -> GroupedScores:
    """Count the clips by at most most_levels levels; all arrays (n,). Raises ManifestError when a class is missing."""
    require_classes(is_speech, "resampling")
    member, n_groups = number_groups(group)
    level, lowest, highest = _score_levels(score, most_levels)
    shape = (lowest.size, n_groups)
    speech, nonspeech = (
        csr_matrix((np.ones(np.count_nonzero(rows)), (level[rows], member[rows])), shape=shape)
        for rows in (is_speech, ~is_speech)
    )
    counts = class_sums(np.ones(len(score)), is_speech, member, n_groups)
    return GroupedScores(speech, nonspeech, counts, lowest, highest)


def resample_curves(scores: GroupedScores, seed: int, name: str) -> Iterator[tuple[Floats, Floats]]:
    """Yield false-alarm and hit rates of the draws in chunks, each (chunk, K + 1); stream (seed, "bootstrap", name)."""
    n = n_resamples(scores.n_groups)
    for weights in resample_groups(scores.counts, seed, name, n, CURVE_CELLS // scores.lowest.size):
        yield _curve(scores.nonspeech, weights), _curve(scores.speech, weights)


def resample_groups(counts: Floats, seed: int, name: str, n_draws: int, at_once: int) -> Iterator[Floats]:
    """Yield the group weights of n_draws draws in chunks, each (chunk, G), of at most `at_once` draws.

    counts: clips of each class, (G, 2). The draws come from the stream (seed, "bootstrap", name).
    """
    rng = stream(seed, "bootstrap", name)
    strata = _strata(counts)
    left = n_draws
    chunk = max(1, min(at_once, CURVE_CELLS // len(counts)))
    while left > 0:
        n = min(chunk, left)
        weights = np.ones((n, len(counts)))
        for stratum in strata:
            if stratum.size > 1:
                drawn = rng.integers(stratum.size, size=(n, stratum.size - 1))
                drawn += np.arange(n)[:, None] * stratum.size
                times = np.bincount(drawn.ravel(), minlength=n * stratum.size)
                weights[:, stratum] = times.reshape(n, stratum.size) * (stratum.size / (stratum.size - 1))
        yield weights
        left -= n


def n_resamples(n_groups: int) -> int:
    """Return how many draws are made: N_RESAMPLES, fewer where there are more than 50,000 groups."""
    return int(np.clip(MOST_DRAWN_GROUPS // n_groups, FEWEST_RESAMPLES, N_RESAMPLES))


def _strata(counts: Floats) -> list[Whole]:
    kinds = (counts > 0) @ np.array([1, 2])
    return [np.flatnonzero(kinds == kind) for kind in (1, 2, 3)]


def _score_levels(score: Floats, most_levels: int) -> tuple[Whole, Floats, Floats]:
    """Return each clip's level, 0 for the highest, and the lowest and the highest score of each level."""
    values, rank = np.unique(score, return_inverse=True)
    rising = np.arange(values.size)
    if values.size > most_levels:
        n_not_above = np.cumsum(np.bincount(rank))
        rising = np.unique((n_not_above - 1) * most_levels // score.size, return_inverse=True)[1]
    first = np.flatnonzero(np.diff(rising, prepend=-1))
    last = np.append(first[1:], values.size) - 1
    return rising[-1] - rising[rank], values[first][::-1], values[last][::-1]


def _curve(clips: csr_matrix, weights: Floats) -> NDArray[np.float64]:
    """Return the share of the drawn clips at or above each level, (chunk, K + 1)."""
    drawn = (clips @ weights.T).T
    curve = np.zeros((drawn.shape[0], drawn.shape[1] + 1))
    np.cumsum(drawn, axis=1, out=curve[:, 1:])
    curve /= curve[:, -1:]
    return curve
