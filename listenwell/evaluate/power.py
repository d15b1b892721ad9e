"""How many groups and clips a question needs, before they are collected; and what a table's clips are worth.

Clips of a group are alike with an intra-class correlation `icc`, so m clips of one group count as m / (1 + (m - 1)
icc). Half-widths are those of `listenwell.evaluate.intervals` (Wilson, design effect, t). Differences are of balanced
accuracy between two methods on the same clips: with a share d of clips on which just one of the two is right,
k groups of m clips in each class have the standard error sqrt(d deff / (2 k m)), and the least detectable difference
at level 5 % (two-sided) is (t(.975) + t(power)) standard errors with k - 1 degrees of freedom
(Julious 2004, Stat. Med. 23:1921, with the design effect). Past MOST_GROUPS no n is given.

Met, not met, or cannot tell at this n: a criterion is judged by the interval, never by the point alone.

The n that would tell is where the interval leaves the target out in TELLING of studies if the measured value is the
truth: the distance is (t(.975) + t(TELLING)) standard errors, which shrink with sqrt(groups), clips per group as they
are. The measured value may flatter: plan for more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot, sqrt
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from listenwell.data.clip import LABELS, Clip
from listenwell.data.test_set import Precision
from listenwell.errors import ConfigError
from listenwell.evaluate.comparison import POWER
from listenwell.evaluate.intervals import (
    PLANNING_ICC,
    Groups,
    Metric,
    number_groups,
)
from listenwell.evaluate.metrics import Floats
from listenwell.evaluate.shares import effective_n, t_quantile, wilson

MOST_GROUPS = 1_000_000
TELLING = 0.9


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be collected for each class."""

    groups: int
    clips: int
    effective_n: float
    half_width: float


def half_width_of(share: float, n_groups: int, clips_per_group: float, icc: float) -> float:
    """Half the width of the interval of a share measured on n_groups of clips_per_group; 0.5 for one group."""
    if n_groups < 2:
        return 0.5
    n = n_groups * clips_per_group / (1.0 + (clips_per_group - 1.0) * icc)
    low, high = wilson(share, n, t_quantile(n_groups))
    return (high - low) / 2


def groups_for_half_width(share: float, half_width: float, clips_per_group: float, icc: float) -> Need:
    """Return what one class needs for recall or specificity near `share` to be known to +-half_width.

    Balanced accuracy is then known to +-half_width / sqrt(2). Raises ConfigError for impossible wishes.
    """
    _check(share=share, half_width=half_width, clips_per_group=clips_per_group, icc=icc)
    groups = _fewest(lambda k: half_width_of(share, k, clips_per_group, icc) <= half_width)
    return _need(groups, clips_per_group, icc, half_width_of(share, groups, clips_per_group, icc))


def groups_for_difference(
    difference: float, discordant_share: float, clips_per_group: float, icc: float, power: float = POWER
) -> Need:
    """Return what each class needs for a difference in balanced accuracy to be found with probability `power`.

    discordant_share: of the clips, those that one method has right and the other wrong; at least the difference.
    """
    _check(difference=difference, discordant_share=discordant_share, clips_per_group=clips_per_group, icc=icc)
    _check(power=power)
    if discordant_share < difference:
        raise ConfigError(
            f"power: methods that differ on {discordant_share:g} of the clips cannot be {difference:g} apart; "
            "give a larger share."
        )
    groups = _fewest(lambda k: detectable_difference(k, discordant_share, clips_per_group, icc, power) <= difference)
    return _need(groups, clips_per_group, icc, difference)


def detectable_difference(
    n_groups: int, discordant_share: float, clips_per_group: float, icc: float, power: float = POWER
) -> float:
    """Return the least difference in balanced accuracy found with probability `power`; infinite for one group."""
    if n_groups < 2:
        return float("inf")
    n = n_groups * clips_per_group / (1.0 + (clips_per_group - 1.0) * icc)
    quantiles = t_quantile(n_groups) + float(stdtrit(n_groups - 1, power))
    return quantiles * sqrt(discordant_share / (2.0 * n))


def groups_to_tell(n_groups: int, half_width: float, distance: float) -> int | None:
    """Return the groups with which TELLING of the studies see a `distance` of the target, None past MOST_GROUPS.

    half_width: that of the interval on n_groups groups.
    """
    if n_groups < 2 or distance <= 0:
        return None
    error = half_width * sqrt(n_groups) / t_quantile(n_groups)
    try:
        return _fewest(lambda k: error / sqrt(k) * (t_quantile(k) + float(stdtrit(k - 1, TELLING))) < distance)
    except ConfigError:
        return None


def worth_of(measure: str, group: Groups, icc: float, shares: Sequence[float]) -> Precision:
    """Return how exactly a share of clips with these groups (n,) can be known at an intra-class correlation."""
    member, n_groups = number_groups(group)
    sizes: Floats = np.bincount(member).astype(np.float64)
    n = float(effective_n(sizes, icc))
    bounds = [wilson(share, n, t_quantile(n_groups)) if n_groups > 1 else (0.0, 1.0) for share in shares]
    widths = tuple((share, (high - low) / 2) for share, (low, high) in zip(shares, bounds, strict=True))
    return Precision(measure, len(group), n_groups, icc, n, widths)


def _need(groups: int, clips_per_group: float, icc: float, half_width: float) -> Need:
    clips = groups * clips_per_group
    return Need(groups, round(clips), clips / (1.0 + (clips_per_group - 1.0) * icc), half_width)


def _fewest(is_enough: Callable[[int], bool]) -> int:
    """Return the smallest number of groups that is enough, by bisection. Raises ConfigError past MOST_GROUPS."""
    low, high = 1, 2
    while not is_enough(high):
        if high >= MOST_GROUPS:
            raise ConfigError(f"power: not even {MOST_GROUPS:,} groups are enough; ask for less precision.")
        low, high = high, min(2 * high, MOST_GROUPS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _check(**numbers: float) -> None:
    """Raise ConfigError for a number outside its range."""
    for name, number in numbers.items():
        if name == "clips_per_group":
            fits, expected = number >= 1, "1 or more"
        elif name == "icc":
            fits, expected = 0 <= number <= 1, "0 to 1"
        else:
            fits, expected = 0 < number < 1, "between 0 and 1, without them (5 points are 0.05)"
        if not fits:
            raise ConfigError(f"power: {name} is {number:g}; expected {expected}.")


Outcome = Literal["met", "not met", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome in words, and the groups and clips in all that would tell (None when told, or when no n would)."""

    outcome: Outcome
    sentence: str
    groups_needed: int | None = None
    clips_needed: int | None = None


def judge_criterion(metric: Metric, target: float) -> Verdict:
    """Judge "`metric` is at least `target`", in the units of the metric."""
    shown = f"{metric.name} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}] against at least {target:g}"
    if metric.low >= target:
        return Verdict("met", f"met: {shown}")
    if metric.high < target:
        return Verdict("not met", f"not met: {shown}")
    half = metric.value - metric.low if metric.value > target else metric.high - metric.value
    groups = groups_to_tell(metric.n_groups, half, abs(metric.value - target))
    sentence = f"cannot tell at {metric.n} scores of {metric.n_groups} groups: {shown}"
    if groups is None:
        return Verdict("cannot tell", sentence)
    clips = ceil(groups * metric.n / metric.n_groups)
    would = f"{groups} groups ({clips} scores) would tell in {TELLING:.0%} of studies if the measured value is true"
    return Verdict("cannot tell", f"{sentence}; {would}", groups, clips)


def judge_within(metric: Metric, margin: float) -> Verdict:
    """Judge "`metric` is between -margin and +margin": equivalence, shown when the whole interval lies within."""
    shown = f"{metric.name} {metric.value:+.3f} [{metric.low:+.3f}, {metric.high:+.3f}] against +-{margin:g}"
    if -margin <= metric.low and metric.high <= margin:
        return Verdict("met", f"met: {shown}")
    if metric.low > margin or metric.high < -margin:
        return Verdict("not met", f"not met: {shown}")
    return Verdict("cannot tell", f"cannot tell at {metric.n} scores of {metric.n_groups} groups: {shown}")


EXPECTED_SHARES = (0.75, 0.85, 0.95)


def expect_precision(clips: Sequence[Clip]) -> list[Precision]:
    """Return how exactly recall, specificity and balanced accuracy (MOVER) can be known from the clips of a test set.

    PLANNING_ICC is the intra-class correlation: no errors are known yet.
    """
    groups = [np.array([clip.group for clip in clips if clip.label == label]) for label in LABELS]
    # by class, for a group of both labels counts in both
    everything = np.concatenate([np.char.add(f"{label} ", group) for label, group in zip(LABELS, groups, strict=True)])
    recall, specificity, both = (
        worth_of(measure, group, PLANNING_ICC, EXPECTED_SHARES)
        for measure, group in zip(("recall", "specificity", "balanced accuracy"), (*groups, everything), strict=True)
    )
    halves = zip(recall.half_widths, specificity.half_widths, strict=True)
    joined = tuple((share, hypot(speech, other) / 2) for (share, speech), (_, other) in halves)
    return [recall, specificity, replace(both, half_widths=joined)]
