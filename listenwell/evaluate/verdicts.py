"""Met, not met, or cannot tell at this n: a criterion is judged by the interval, never by the point alone.

The n that would tell is what the interval needs to leave the target out if the measured value is the truth:
half-widths shrink with t(groups - 1) / sqrt(groups), clips per group as they are. The measured value may flatter:
plan for more.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.power import groups_to_shrink

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
    return _cannot_tell(metric, shown, half, abs(metric.value - target))


def judge_within(metric: Metric, margin: float) -> Verdict:
    """Judge "`metric` is between -margin and +margin": equivalence, shown when the whole interval lies within."""
    shown = f"{metric.name} {metric.value:+.3f} [{metric.low:+.3f}, {metric.high:+.3f}] against +-{margin:g}"
    if -margin <= metric.low and metric.high <= margin:
        return Verdict("met", f"met: {shown}")
    if metric.low > margin or metric.high < -margin:
        return Verdict("not met", f"not met: {shown}")
    half = max(metric.high - metric.value, metric.value - metric.low)
    return _cannot_tell(metric, shown, half, abs(margin - abs(metric.value)))


def _cannot_tell(metric: Metric, shown: str, half_width: float, distance: float) -> Verdict:
    groups = groups_to_shrink(metric.n_groups, half_width, distance)
    if groups is None:
        return Verdict("cannot tell", f"cannot tell at {metric.n} clips of {metric.n_groups} groups: {shown}")
    clips = ceil(groups * metric.n / metric.n_groups)
    would = f"{groups} groups ({clips} clips) would tell if the measured value is the truth"
    return Verdict(
        "cannot tell", f"cannot tell at {metric.n} clips of {metric.n_groups} groups: {shown}; {would}", groups, clips
    )
