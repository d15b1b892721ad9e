"""95 % intervals that respect groups: clips of one speaker or sound source are not independent.

Proportions: Wilson's interval (1927, JASA 22:209) with the sample size divided by the design effect
    deff = 1 + (m - 1) icc,   m = sum(m_g^2) / n   (Kish 1965; Donner & Klar 2000, section 5.3),
and t with (groups - 1) degrees of freedom in place of the normal quantile. icc is the ANOVA estimate (Ridout,
Demetrio & Firth 1999, Biometrics 55:137), drawn towards a planning value of 0.3 with the weight of two errors,
    (e icc + 2 * 0.3) / (e + 2),   e = number of the rarer outcome,
because it says nothing when there are few errors (0/0 when there is none). Simulated coverage of the nominal 95 %,
icc 0 to 0.5: 10 groups of 5 clips .95 to .99; 60 of 5 at 98 % right .96 to .98, against .89 to .95 without it.
Balanced accuracy: the two class intervals combined (MOVER: Newcombe 1998, Stat. Med. 17:873; Zou & Donner 2008,
Stat. Med. 27:1693). AUC and EER: percentile cluster bootstrap, groups drawn within each class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from listenwell.evaluate.metrics import Bools, Floats, balanced_accuracy, require_classes
from listenwell.random_streams import stream

CONFIDENCE = 0.95
PLANNING_ICC = 0.3
PLANNING_WEIGHT_ERRORS = 2.0
FEW_GROUPS = 30
N_RESAMPLES = 2000
Groups = NDArray[np.str_]


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
    _, member = np.unique(group, return_inverse=True)
    sizes: Floats = np.bincount(member).astype(np.float64)
    rights: Floats = np.bincount(member, weights=is_right).astype(np.float64)
    share, n_clips, n_groups = float(np.mean(is_right)), len(is_right), sizes.size
    if n_groups == 1:
        return Metric(name, share, 0.0, 1.0, n_clips, 1, "none", "one group says nothing about other groups")
    mean_size = float(np.square(sizes).sum() / n_clips)
    n_effective = n_clips / (1.0 + (mean_size - 1.0) * planned_icc(rights, sizes))
    low, high = wilson(share, n_effective, float(stdtrit(n_groups - 1, 0.5 + CONFIDENCE / 2)))
    return Metric(name, share, low, high, n_clips, n_groups, "Wilson, design effect, t")


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share out of n (n may be a fraction)."""
    z2 = quantile * quantile
    centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = quantile / (1.0 + z2 / n) * sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def planned_icc(rights: Floats, sizes: Floats) -> float:
    """Return the intra-class correlation drawn towards PLANNING_ICC where errors are few.

    rights, sizes: right clips and all clips of each group, shape (n_groups,).
    """
    n_rare = float(min(rights.sum(), (sizes - rights).sum()))
    estimate = anova_icc(rights, sizes) if n_rare > 0 and sizes.max() > 1 else PLANNING_ICC
    return (n_rare * estimate + PLANNING_WEIGHT_ERRORS * PLANNING_ICC) / (n_rare + PLANNING_WEIGHT_ERRORS)


def anova_icc(rights: Floats, sizes: Floats) -> float:
    """Return the ANOVA estimate of the intra-class correlation of a right/wrong outcome, cut to [0, 1].

    (MSB - MSW) / (MSB + (m0 - 1) MSW), m0 = (n - sum(m_g^2) / n) / (groups - 1). Needs an error, a right clip and
    a group of two clips.
    """
    n_clips, n_groups = sizes.sum(), sizes.size
    shares, share = rights / sizes, rights.sum() / n_clips
    between = (sizes * np.square(shares - share)).sum() / (n_groups - 1)
    within = (rights * (1.0 - shares)).sum() / (n_clips - n_groups)
    typical_size = (n_clips - np.square(sizes).sum() / n_clips) / (n_groups - 1)
    return float(np.clip((between - within) / (between + (typical_size - 1.0) * within), 0.0, 1.0))


def balanced_accuracy_interval(says_speech: Bools, is_speech: Bools, group: Groups) -> Metric:
    """Return balanced accuracy with the MOVER interval of its two halves.

    With r in [l1, u1] and s in [l2, u2]: low = (r + s) / 2 - sqrt((r - l1)^2 + (s - l2)^2) / 2, high likewise.
    The halves are taken as independent: no group should hold clips of both classes.
    """
    value = balanced_accuracy(says_speech, is_speech)
    speech = proportion("recall", says_speech[is_speech], group[is_speech])
    nonspeech = proportion("specificity", ~says_speech[~is_speech], group[~is_speech])
    below = sqrt((speech.value - speech.low) ** 2 + (nonspeech.value - nonspeech.low) ** 2) / 2
    above = sqrt((speech.high - speech.value) ** 2 + (nonspeech.high - nonspeech.value) ** 2) / 2
    shared = np.intersect1d(group[is_speech], group[~is_speech]).size
    notes = [half.note for half in (speech, nonspeech) if half.note]
    if shared:
        notes.append(f"{shared} groups hold both classes, so the two halves are not independent")
    return Metric(
        "balanced_accuracy",
        value,
        max(0.0, value - below),
        min(1.0, value + above),
        len(is_speech),
        np.unique(group).size,
        "MOVER of two Wilson intervals, design effect, t",
        "; ".join(notes),
    )


def bootstrap_interval(
    name: str,
    statistic: Callable[[Floats, Bools], float],
    score: Floats,
    is_speech: Bools,
    group: Groups,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> Metric:
    """Return statistic(score, is_speech) with its percentile cluster-bootstrap interval.

    Whole groups are drawn with replacement within each class (and within the groups that hold both), so both
    classes are in every resample; the draws come from the stream (seed, "bootstrap", name). The interval is too
    narrow for few groups, which the note says below FEW_GROUPS.
    """
    require_classes(is_speech, name)
    rng = stream(seed, "bootstrap", name)
    strata = _strata(is_speech, group)
    n_groups = sum(len(stratum) for stratum in strata)
    values = np.empty(n_resamples)
    for resample in range(n_resamples):
        drawn = [stratum[i] for stratum in strata for i in rng.integers(len(stratum), size=len(stratum))]
        rows = np.concatenate(drawn)
        values[resample] = statistic(score[rows], is_speech[rows])
    low, high = np.quantile(values, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    note = f"only {n_groups} groups, the interval is too narrow" if n_groups < FEW_GROUPS else ""
    value = statistic(score, is_speech)
    return Metric(
        name, value, float(low), float(high), len(score), n_groups, f"cluster bootstrap, {n_resamples} resamples", note
    )


def _strata(is_speech: Bools, group: Groups) -> list[list[NDArray[np.intp]]]:
    """Return the rows of each group, the groups gathered by the classes they hold: speech, non-speech, both."""
    strata: dict[tuple[bool, bool], list[NDArray[np.intp]]] = {}
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        kind = (bool(is_speech[rows].any()), bool((~is_speech[rows]).any()))
        strata.setdefault(kind, []).append(rows)
    return [strata[kind] for kind in sorted(strata)]
