"""The seven ways a good number is had for nothing, each looked for and put into words.

Functions take tables and thresholds and return warnings, one sentence each, none where all is well: a threshold tuned
on the test, too few clips, one speaker, clips counted as independent that are not, rows that were dropped, a mix of
classes that makes guessing look good, and the best of several.
"""

from collections.abc import Collection, Mapping

import numpy as np
from scipy.special import ndtri

from listenwell.evaluate.calibration import Threshold, best_threshold, scores_sha256
from listenwell.evaluate.intervals import PLANNING_ICC, Metric, number_groups
from listenwell.evaluate.metrics import Floats
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.shares import effective_n, share_bounds, t_quantile

FEW_EFFECTIVE_CLIPS = 30.0
LARGEST_GROUP_SHARE = 0.5
LARGEST_CLASS_SHARE = 0.6
OPTIMISM_POINTS = 0.01
DIGITS_COPIED = range(3, 16)
"""Significant digits that a threshold is copied with."""
NAMED = 3


def find_traps(table: ScoreTable, threshold: float, chosen: Threshold | None = None) -> list[str]:
    """Return the warnings that one table and its threshold give; chosen: the record of the threshold, if any.

    Decisions were not made by a threshold on them. Both classes must be there.
    """
    conditions = np.unique(table.condition)
    once = table.select(table.condition == conditions[0]) if conditions.size > 1 else table
    return [
        *([] if table.is_decision else warn_tuned_on_test(table, threshold, chosen)),
        *warn_groups(once),
        *warn_dropped_rows(table),
        *warn_prevalence(table),
    ]


def warn_tuned_on_test(table: ScoreTable, threshold: float, chosen: Threshold | None) -> list[str]:
    """Warn when these very scores chose the threshold, or it is the one they would choose, rounded or not."""
    if chosen is not None:
        if chosen.dev_sha256 != scores_sha256(table):
            return []
        return ["the threshold was chosen on these very scores: measure it on clips that did not choose it"]
    best, _ = best_threshold(table.score, table.is_speech)
    if threshold in (best, *(float(f"{best:.{digits}g}") for digits in DIGITS_COPIED)):
        return [f"threshold {threshold:g} is the best one of these very scores: if tuned on them, they flatter it"]
    return []


def warn_groups(table: ScoreTable) -> list[str]:
    """Warn when a class's clips are worth fewer than FEW_EFFECTIVE_CLIPS independent ones, are of one group or mostly
    of one, or each a group of its own, so that intervals take all of them as independent.
    """
    warnings = []
    for label, rows in (("SPEECH", table.is_speech), ("NONSPEECH", ~table.is_speech)):
        member, n_groups = number_groups(table.group[rows])
        sizes: Floats = np.bincount(member).astype(np.float64)
        largest, share = table.group[rows][np.argmax(sizes[member])], sizes.max() / member.size
        if n_groups == 1:
            warnings.append(f"all {label} clips are of one group, '{largest}': nothing is known of others")
        elif effective_n(sizes, PLANNING_ICC) < FEW_EFFECTIVE_CLIPS:
            low, _ = share_bounds(sizes, sizes)
            warnings.append(
                f"{rows.sum()} {label} clips of {n_groups} groups are few: with all of them right, only {low:.0%} of "
                f"{label} would be certain to be right"
            )
        if n_groups > 1 and share > LARGEST_GROUP_SHARE:
            warnings.append(f"{share:.0%} of the {label} clips are of one group, '{largest}'")
        if n_groups == np.unique(table.clip_id[rows]).size > 1:
            warnings.append(
                f"every {label} clip is its own group: where several are of one speaker, intervals are too narrow"
            )
    return warnings


def warn_dropped_rows(table: ScoreTable, expected: Collection[str] = ()) -> list[str]:
    """Warn when clips are missing: of `expected` (clip ids), or under some of the table's conditions."""
    everyone = set(table.clip_id.tolist()) | set(expected)
    warnings = []
    for condition in dict.fromkeys(table.condition.tolist()):
        missing = sorted(everyone - set(table.clip_id[table.condition == condition].tolist()))
        if missing:
            named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
            warnings.append(
                f"{len(missing)} of {len(everyone)} clips have no score{f' under {condition}' if condition else ''} "
                f"({named}): clips left out are seldom the easy ones"
            )
    return warnings


def warn_prevalence(table: ScoreTable) -> list[str]:
    """Warn when one class is so common that accuracy, precision and average precision flatter."""
    speech_share = float(np.mean(table.is_speech))
    common, share = ("SPEECH", speech_share) if speech_share >= 0.5 else ("NONSPEECH", 1.0 - speech_share)
    if share <= LARGEST_CLASS_SHARE:
        return []
    return [f"{share:.0%} of the clips are {common}: calling everything {common} has an accuracy of {share:.2f}"]


def warn_best_of(metrics: Mapping[str, Metric]) -> list[str]:
    """Warn how much the best of several methods on the same clips is expected to gain from luck alone.

    metrics: method -> the same measure. Scores of different methods on the same clips rise and fall together, so the
    expected largest of N independent values (Blom's approximation) is an upper limit.
    """
    if len(metrics) < 3:
        return []
    best = max(metrics, key=lambda name: metrics[name].value)
    metric = metrics[best]
    error = (metric.high - metric.low) / (2.0 * t_quantile(metric.n_groups))
    optimism = error * float(ndtri((len(metrics) - 0.375) / (len(metrics) + 0.25)))
    if optimism < OPTIMISM_POINTS:
        return []
    return [
        f"'{best}' is the best of {len(metrics)} on these clips: if all were equally good, the best would still read "
        f"up to {optimism:.3f} too high; measure it again on other clips"
    ]
