"""Draw whole groups again and again, and give the operating curve of every draw.

Groups are drawn with replacement within their stratum (speech groups, non-speech groups, groups of both), one fewer
than there are, so that the spread of the draws is not too small (Rao & Wu 1988, JASA 83:231); a stratum of one group
stays as it is. A draw is a vector of group weights, and the curves of many draws are one product of weights with the
clips counted by group and score level, so 2,000 draws of 10^6 clips take seconds.

G groups, K score levels from the highest down. Above MOST_LEVELS distinct scores, levels of equally many clips stand
for them in the draws (never in the measured value): an AUC moves by less than 1 / (2 MOST_LEVELS).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from listenwell.evaluate.intervals import Groups, Whole, class_sums, number_groups
from listenwell.evaluate.metrics import Bools, Floats, require_classes
from listenwell.random_streams import stream

N_RESAMPLES = 2000
FEWEST_RESAMPLES = 400
MOST_DRAWN_GROUPS = 100_000_000
MOST_LEVELS = 2048
CURVE_CELLS = 2_000_000
"""Curves are made in chunks of about this many points."""


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
