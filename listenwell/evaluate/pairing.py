"""Several methods on the same clips: rows brought into one order, each measured, the first compared with the others.

Nothing is dropped unasked: methods that scored other clips are refused unless `common` asks for the clips that all
scored, and then it is said how many were left out. Labels and groups must agree. The primary test is the paired
permutation by group (`comparison`), corrected for all comparisons made together (max-t); the difference of the AUCs
stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.errors import ManifestError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import (
    Outcome,
    PairedDifference,
    compare_auc,
    compare_balanced_accuracy,
    correct_together,
    name_contributions,
    outcome_of,
)
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import decision_metrics, versions
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.ranking import auc_metric
from listenwell.evaluate.scores import ScoreTable


@dataclass(frozen=True, slots=True)
class Contender:
    """A method by name, its scores and the threshold it decides at.

    chosen: the record of the threshold, if any; note: what was taken for granted about the scores.
    """

    name: str
    table: ScoreTable
    threshold: float
    chosen: Threshold | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One method under one condition."""

    name: str
    condition: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The first method against an opponent under one condition.

    auc: None where one of them gives decisions; p_adjusted: corrected over all pairs made together; contributions: what
    each group adds to the difference.
    """

    name: str
    opponent: str
    condition: str
    difference: PairedDifference
    auc: PairedDifference | None
    contributions: Mapping[str, float]
    p_adjusted: float = 1.0

    @property
    def outcome(self) -> Outcome:
        """Better or worse where the interval and the corrected p value both say so."""
        return outcome_of(self.difference, self.p_adjusted)


@dataclass(frozen=True, slots=True)
class GroupCount:
    """How many of the n clips of a group and label each method decides rightly, in the order of the methods."""

    group: str
    label: str
    n: int
    n_right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """All standings and pairs, clean clips by group, and how many rows of each method another one lacks."""

    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[GroupCount, ...]
    left_out: dict[str, int]


def compare_contenders(contenders: Sequence[Contender], seed: int, common: bool = False) -> SideBySide:
    """Measure all and compare the first with each other one, by condition.

    Raises ManifestError when clips differ (without `common`), labels or groups disagree, or a class is missing.
    """
    aligned = _align(contenders, common)
    tables = [versions(contender.table) for contender in aligned]
    conditions = list(tables[0])
    standings = []
    for condition, (contender, by_condition) in product(conditions, list(zip(aligned, tables, strict=True))):
        table = by_condition[condition]
        metrics = decision_metrics(decide(table.score, contender.threshold), table.is_speech, table.group)
        if not table.is_decision:
            metrics.append(auc_metric(table.score, table.is_speech, table.group))
        standings.append(Standing(contender.name, condition, tuple(metrics)))
    pairs = [
        _pair(aligned[0], other, condition, tables[0][condition], table[condition], seed)
        for condition in conditions
        for other, table in zip(aligned[1:], tables[1:], strict=True)
    ]
    whole = CLEAN if CLEAN in conditions else conditions[0]
    groups = _count_groups(aligned, [table[whole] for table in tables])
    left_out = {one.name: len(one.table) - len(kept.table) for one, kept in zip(contenders, aligned, strict=True)}
    (corrected,) = correct_all([SideBySide(tuple(standings), tuple(pairs), groups, left_out)], seed)
    return corrected


def correct_all(compared: Sequence[SideBySide], seed: int) -> list[SideBySide]:
    """Return the same with the p values corrected over the pairs of all of them."""
    pairs = [pair for result in compared for pair in result.pairs]
    corrected = iter(correct_together([pair.contributions for pair in pairs], seed) if pairs else [])
    return [
        replace(result, pairs=tuple(replace(pair, p_adjusted=next(corrected)) for pair in result.pairs))
        for result in compared
    ]


def _align(contenders: Sequence[Contender], common: bool) -> list[Contender]:
    """The contenders with the same rows in the order of the first, `common`: those that all of them have."""
    keys = [list(zip(c.table.clip_id.tolist(), c.table.condition.tolist(), strict=True)) for c in contenders]
    aligned = list(contenders)
    if any(other != keys[0] for other in keys[1:]):
        places = [{key: place for place, key in enumerate(rows)} for rows in keys]
        shared = [key for key in keys[0] if all(key in others for others in places)]
        lacking = [c for c in contenders if len(shared) < len(c.table)]
        if lacking and not common:
            raise ManifestError(
                f"'{contenders[0].name}' and the others were not scored on the same clips ({len(shared)} rows in "
                f"common, '{lacking[0].name}' has {len(lacking[0].table)}); score what is missing, or give --common."
            )
        if not shared:
            raise ManifestError("the tables have no clip in common; look at clip_id and condition in each.")
        aligned = [
            replace(contender, table=contender.table.take(np.array([place[key] for key in shared])))
            for contender, place in zip(contenders, places, strict=True)
        ]
    _require_agreement(aligned)
    return aligned


def _require_agreement(aligned: Sequence[Contender]) -> None:
    """Raise ManifestError where a table disagrees with the first about a clip's label or group."""
    one = aligned[0]
    for other, column in ((other, column) for other in aligned[1:] for column in ("label", "group")):
        differing = np.flatnonzero(getattr(one.table, column) != getattr(other.table, column))
        if differing.size:
            row = int(differing[0])
            raise ManifestError(
                f"clip '{one.table.clip_id[row]}' has the {column} '{getattr(one.table, column)[row]}' in "
                f"'{one.name}' and '{getattr(other.table, column)[row]}' in '{other.name}' ({differing.size} such "
                "clips); correct one of the tables."
            )


def _pair(one: Contender, other: Contender, condition: str, ours: ScoreTable, theirs: ScoreTable, seed: int) -> Pair:
    a, b = decide(ours.score, one.threshold), decide(theirs.score, other.threshold)
    truth, group, is_ranked = ours.is_speech, ours.group, not (ours.is_decision or theirs.is_decision)
    auc = compare_auc(ours.score, theirs.score, truth, group) if is_ranked else None
    difference = compare_balanced_accuracy(a, b, truth, group, seed)
    contributions = name_contributions(a == truth, b == truth, truth, group)
    return Pair(one.name, other.name, condition, difference, auc, contributions)


def _count_groups(contenders: Sequence[Contender], tables: Sequence[ScoreTable]) -> tuple[GroupCount, ...]:
    """Groups in the order of label and name; the tables hold the same rows."""
    first = tables[0]
    right = [decide(t.score, c.threshold) == t.is_speech for c, t in zip(contenders, tables, strict=True)]
    counts = []
    for label, group in sorted(set(zip(first.label.tolist(), first.group.tolist(), strict=True))):
        rows = (first.label == label) & (first.group == group)
        counts.append(GroupCount(group, label, int(rows.sum()), tuple(int(is_right[rows].sum()) for is_right in right)))
    return tuple(counts)
