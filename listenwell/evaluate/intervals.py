"""95 % intervals that respect groups: clips of one speaker or sound source are not independent.

Shares of right decisions: `listenwell.evaluate.shares`. Balanced accuracy: the two class intervals combined (MOVER:
Newcombe 1998, Stat. Med. 17:873; Zou & Donner 2008, Stat. Med. 27:1693). Ranking measures:
`listenwell.evaluate.ranking`. Simulated coverage of all: benchmarks/interval_coverage.py, docs/statistics.md.

Other measures: whole groups are drawn again and again, with replacement within their stratum (speech groups, non-speech
groups, groups of both), one fewer than there are, so that the spread of the draws is not too small (Rao & Wu 1988, JASA
83:231); a stratum of one group stays as it is. A draw is a vector of group weights, and the operating curves of many
draws are one product of weights with the clips counted by group and score level: 2,000 draws of 10^6 clips take
seconds. Above MOST_LEVELS distinct scores, levels of equally many clips stand for them in the draws (never in the
measured value): an AUC moves by less than 1 / (2 MOST_LEVELS).

G groups, K score levels from the highest down; arrays (..., G) are groups of several draws at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit, logit, ndtr

from listenwell.evaluate.metrics import Bools, Floats, require_classes
from listenwell.evaluate.shares import share_bounds, t_quantile
from listenwell.random_streams import stream

PLANNING_ICC = 0.3
"""The intra-class correlation assumed before there are errors to estimate it from."""
FEW_GROUPS = 30
ONE_GROUP = "one group says nothing about other groups"
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
    """Return the share of True in `is_right` (n,) with its interval over groups.

    With one group nothing is known of other groups, and the interval is [0, 1].
    """
    member, n_groups = number_groups(group)
    share, n_clips = float(np.mean(is_right)), len(is_right)
    if n_groups == 1:
        return Metric(name, share, 0.0, 1.0, n_clips, 1, "none", ONE_GROUP)
    sizes: Floats = np.bincount(member).astype(np.float64)
    low, high = share_bounds(np.bincount(member, weights=is_right).astype(np.float64), sizes)
    return Metric(name, share, low, high, n_clips, n_groups, "beta-binomial and Wilson, by group")


def number_groups(group: Groups) -> tuple[Whole, int]:
    """Return each clip's group as a number from 0 on, (n,), and how many groups there are."""
    if group.dtype.kind == "i":
        names, member = np.unique(group, return_inverse=True)
        return member, names.size
    numbers: dict[str, int] = {}
    listed = [numbers.setdefault(name, len(numbers)) for name in group.tolist()]
    return np.array(listed, dtype=np.intp), len(numbers)


def few_groups_note(n_groups: int) -> str:
    """What is said about an interval over few groups, "" where they are enough."""
    return f"only {n_groups} groups, the interval is rough" if n_groups < FEW_GROUPS else ""


def expanded_tails(n_groups: int) -> tuple[float, float]:
    """Return the percentiles of an interval over draws of n_groups groups: further out the fewer there are.

    Normal tails of the t quantile (Hesterberg 2015, Am. Stat. 69:371): 2.5 and 97.5 % for many groups.
    """
    tail = float(ndtr(-t_quantile(n_groups)))
    return tail, 1.0 - tail


def balanced_accuracy_interval(says_speech: Bools, is_speech: Bools, group: Groups) -> Metric:
    """Return balanced accuracy with the MOVER interval of its two halves; arrays (n,).

    With r in [l1, u1] and s in [l2, u2]: low = (r + s) / 2 - sqrt((r - l1)^2 + (s - l2)^2) / 2, high likewise.
    The halves are taken as independent: no group should hold clips of both classes.
    """
    return interval_over_seeds(says_speech[None], is_speech, group)


def interval_over_seeds(says_speech: Bools, is_speech: Bools, group: Groups) -> Metric:
    """Return the mean balanced accuracy of S seeds' fits on the same n clips; says_speech (S, n).

    A clip counts as right in the share of the seeds that decide it rightly. The interval holds groups and seeds: the
    half of the groups and that of the seeds' spread with t, joined as independent ones.
    """
    require_classes(is_speech, "balanced accuracy")
    right = (says_speech == is_speech).astype(np.float64)
    member, n_groups = number_groups(group)
    sums, counts = (
        class_sums(values, is_speech, member, n_groups) for values in (right.mean(axis=0), np.ones(len(group)))
    )
    below, above, notes = [], [], list[str]()
    for rights, sizes in zip(sums.T, counts.T, strict=True):
        share, (low, high) = rights.sum() / sizes.sum(), (0.0, 1.0)
        if np.count_nonzero(sizes) > 1:
            low, high = share_bounds(rights[sizes > 0], sizes[sizes > 0])
        else:
            notes.append(ONE_GROUP)
        below.append(share - low)
        above.append(high - share)
    if shared := np.count_nonzero((counts > 0).all(axis=1)):
        notes.append(f"{shared} groups hold both classes, so the two halves are not independent")
    values = seed_values(right, is_speech)
    value, half = float(values.mean()), half_over_seeds(values) or 0.0
    low, high = max(0.0, value - hypot(hypot(*below) / 2, half)), min(1.0, value + hypot(hypot(*above) / 2, half))
    method = "MOVER of the two classes' intervals" + ", seeds by t" * (len(values) > 1)
    return Metric("balanced_accuracy", value, low, high, len(group), n_groups, method, "; ".join(notes))


def seed_values(is_right: Floats, is_speech: Bools) -> Floats:
    """Return the balanced accuracy of each seed, (S,); is_right (S, n)."""
    return np.asarray((is_right[:, is_speech].mean(axis=1) + is_right[:, ~is_speech].mean(axis=1)) / 2)


def half_over_seeds(values: Floats) -> float | None:
    """Return half of the t interval of the mean over seeds; None with one, or where all are alike: no estimate."""
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    return t_quantile(len(values)) * float(np.std(values, ddof=1)) / sqrt(len(values))


def mean_over_folds(name: str, values: Floats, sizes: Whole) -> Metric:
    """Return the mean of a measure of K folds, each of `sizes` (K,) clips, with its interval.

    Each fold counts once, as a group of the mean size that has this share right. Folds share training clips, so their
    values are not quite independent, which no estimate of one run can mend (Bengio & Grandvalet 2004, JMLR 5:1089).
    One fold says nothing about others: [0, 1].
    """
    n_folds, value, n_clips = values.size, float(np.mean(values)), int(sizes.sum())
    if n_folds == 1:
        return Metric(name, value, 0.0, 1.0, n_clips, 1, "none", "one fold says nothing about other folds")
    size = np.full(n_folds, n_clips / n_folds)
    low, high = share_bounds(values * size, size)
    return Metric(name, value, low, high, n_clips, n_folds, "beta-binomial and Wilson, by fold")


def logit_bounds(value: float, error: float, fewest_clips: float, n_groups: float) -> tuple[float, float]:
    """Return the interval of a measure in [0, 1] with standard error `error` over groups: on the logit scale, with t.

    So that a measure at its limit, where no spread is seen, does not look certain, it is drawn towards 1/2 as if half
    a clip of the smaller class were judged the other way, and so much is added to the error. The wider of that and
    the plain interval counts. n_groups: those of the smaller class.
    """
    quantile, half_clip = t_quantile(n_groups), 0.5 / fewest_clips
    inside = value - half_clip * (value - 0.5)
    bounds = [_on_logit_scale(inside, quantile * hypot(error, half_clip / 2))]
    if 0.0 < value < 1.0:
        bounds.append(_on_logit_scale(value, quantile * error))
    return min(value, *(low for low, _ in bounds)), max(value, *(high for _, high in bounds))


def _on_logit_scale(value: float, half_width: float) -> tuple[float, float]:
    half = half_width / (value * (1.0 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


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


def linearised_error(sums: Floats, counts: Floats) -> float:
    """Return the standard error over groups of the mean of two classes' means; sums of values, counts: (G, 2)."""
    totals = counts.sum(axis=0)
    return stratified_error(((sums - counts * sums.sum(axis=0) / totals) / totals).sum(axis=1) / 2, counts)


def group_parts(group: Groups, is_speech: Bools, most_parts: int, seed: int, name: str) -> list[Bools]:
    """Return the clips of each of several parts of the groups, (n,) each, so that both classes are in every part.

    As many parts as the smaller class has groups, at most most_parts; none where that is one. Drawn from the stream
    (seed, "parts", name).
    """
    member, n_groups = number_groups(group)
    rng, part = stream(seed, "parts", name), np.zeros(n_groups, dtype=np.intp)
    of_class = [np.unique(member[rows]) for rows in (is_speech, ~is_speech)]
    n_parts = min(most_parts, *(groups.size for groups in of_class))
    if n_parts < 2:
        return []
    for groups in of_class:
        part[rng.permutation(groups)] = np.arange(groups.size) % n_parts
    return [part[member] == number for number in range(n_parts)]


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
    kinds = (counts > 0) @ np.array([1, 2])
    strata = [np.flatnonzero(kinds == kind) for kind in (1, 2, 3)]
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
