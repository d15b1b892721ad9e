"""Intervals of ranking measures by group: AUC, equal error rate, minDCF.

AUC: the variance of group sums of placements, a clip's share of the other class it is ranked right against
(DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837; for groups Obuchowski 1997, Biometrics 53:567). The others:
the spread over draws of whole groups. Both make an interval on the logit scale with t, its degrees of freedom those of
the class that has fewer groups, groups of unequal size counted as Kish counts them. Simulated coverage:
docs/statistics.md.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from listenwell.evaluate.intervals import (
    Groups,
    Metric,
    Whole,
    class_sums,
    few_groups_note,
    group_scores,
    logit_bounds,
    n_resamples,
    number_groups,
    resample_curves,
    stratified_error,
)
from listenwell.evaluate.metrics import (
    EQUAL_COSTS,
    Bools,
    Costs,
    Floats,
    equal_error_of,
    least_cost_of,
    require_classes,
    roc_auc,
    roc_points,
)
from listenwell.evaluate.shares import kish_groups

CurveMeasure = Callable[[Floats, Floats], Floats]


def ranking_metrics(
    score: Floats, is_speech: Bools, group: Groups, seed: int, costs: Costs = EQUAL_COSTS
) -> list[Metric]:
    """Return AUC, equal error rate and minDCF with intervals; arrays (n,).

    Raises ManifestError when a class is missing.
    """
    measures: dict[str, CurveMeasure] = {
        "equal_error_rate": equal_error_of,
        "min_dcf": partial(least_cost_of, costs=costs),
    }
    notes = {
        "equal_error_rate": "",
        "min_dcf": (
            f"a miss costs {costs.miss:g}, a false alarm {costs.false_alarm:g}, {costs.speech_prior:.0%} speech to come"
        ),
    }
    found = bootstrap_metrics(measures, score, is_speech, group, seed, notes)
    return [auc_metric(score, is_speech, group), *found]


def auc_metric(score: Floats, is_speech: Bools, group: Groups) -> Metric:
    """Return the AUC with the interval of group sums of placements. Raises ManifestError when a class is missing."""
    require_classes(is_speech, "AUC")
    member, n_groups = number_groups(group)
    counts = class_sums(np.ones(len(score)), is_speech, member, n_groups)
    value = roc_auc(score, is_speech)
    error = stratified_error(auc_contributions(score, is_speech, member, n_groups), counts)
    low, high, note = _bounds(value, error, counts)
    return Metric("roc_auc", value, low, high, len(score), n_groups, "placements by group, logit scale, t", note)


def auc_contributions(score: Floats, is_speech: Bools, member: Whole, n_groups: int) -> Floats:
    """Return what each group adds to the AUC's deviation from its mean, (G,); member (n,) numbers the groups."""
    right = placements(score, is_speech) - roc_auc(score, is_speech)
    totals = np.where(is_speech, np.count_nonzero(is_speech), np.count_nonzero(~is_speech))
    return np.bincount(member, weights=right / totals, minlength=n_groups).astype(np.float64)


def placements(score: Floats, is_speech: Bools) -> Floats:
    """Return for each clip the share of the other class it is ranked right against, ties one half, shape (n,)."""
    right = np.empty(len(score))
    for rows, sign in ((is_speech, 1.0), (~is_speech, -1.0)):
        others = np.sort(sign * score[~rows])
        own = sign * score[rows]
        below = np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")
        right[rows] = below / (2.0 * others.size)
    return right


def bootstrap_metrics(
    measures: Mapping[str, CurveMeasure],
    score: Floats,
    is_speech: Bools,
    group: Groups,
    seed: int,
    notes: Mapping[str, str],
) -> list[Metric]:
    """Return measures of the operating curve, each in [0, 1], with intervals from one set of draws.

    notes: what is said about each measure, "" for nothing. Under FEW_GROUPS groups the note warns.
    """
    grouped = group_scores(score, is_speech, group)
    curve = roc_points(score, is_speech)
    draws: dict[str, list[Floats]] = {name: [] for name in measures}
    for fpr, tpr in resample_curves(grouped, seed, "ranking"):
        for name, measure in measures.items():
            draws[name].append(measure(fpr, tpr))
    method = f"{n_resamples(grouped.n_groups)} draws of groups, logit scale, t"
    metrics = []
    for name, measure in measures.items():
        value = float(measure(*curve))
        low, high, note = _bounds(value, float(np.std(np.concatenate(draws[name]), ddof=1)), grouped.counts)
        note = "; ".join(part for part in (notes[name], note) if part)
        metrics.append(Metric(name, value, low, high, len(score), grouped.n_groups, method, note))
    return metrics


def _bounds(value: float, error: float, counts: Floats) -> tuple[float, float, str]:
    """Return interval and note of a measure of the operating curve; counts: clips of each class, (G, 2)."""
    if (counts > 0).sum(axis=0).min() == 1:
        return 0.0, 1.0, "one group in a class says nothing about other groups"
    low, high = logit_bounds(value, error, counts.sum(axis=0).min(), fewest_groups(counts))
    return low, high, few_groups_note(len(counts))


def fewest_groups(counts: Floats) -> float:
    """Return the groups of equal size that the class with fewer is worth; counts: clips of each class, (G, 2)."""
    return min(kish_groups(sizes[sizes > 0]) for sizes in counts.T)
