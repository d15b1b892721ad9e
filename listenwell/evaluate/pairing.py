"""Several methods on the same clips: rows brought into one order, each measured, the first compared with the others.

Nothing is dropped unasked: methods that scored other clips are refused unless `common` asks for the clips that all
scored, and then it is said how many were left out. Labels and groups must agree. The primary test is the paired
permutation by group (`comparison`), corrected by Holm over all comparisons made; McNemar and DeLong stand beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import ManifestError
from listenwell.evaluate.comparison import (
    PairedDifference,
    SideTest,
    compare_balanced_accuracy,
    delong,
    holm,
    mcnemar_exact,
)
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import decision_metrics, versions
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.ranking import auc_metric
from listenwell.evaluate.scores import ScoreTable


@dataclass(frozen=True, slots=True)
class Contender:
    """A method by name, its scores and the threshold it decides at."""

    name: str
    table: ScoreTable
    threshold: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One method under one condition."""

    name: str
    condition: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The first method against an opponent under one condition; p_holm: corrected over all pairs of the table."""

    name: str
    opponent: str
    condition: str
    difference: PairedDifference
    p_holm: float
    beside: tuple[SideTest, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """All standings and pairs, and how many rows of each method were left out because another lacks them."""

    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    left_out: dict[str, int]


def compare_contenders(contenders: Sequence[Contender], seed: int, common: bool = False) -> SideBySide:
    """Measure all and compare the first with each other one, by condition.

    Raises ManifestError when clips differ (without `common`), labels or groups disagree, or a class is missing.
    """
    aligned = align(contenders, common)
    parts = {each.name: versions(each.table) for each in aligned}
    conditions = list(parts[aligned[0].name])
    standings = [_standing(each, name, parts[each.name][name]) for name in conditions for each in aligned]
    pairs = [
        _pair(aligned[0], other, name, parts[aligned[0].name][name], parts[other.name][name], seed)
        for name in conditions
        for other in aligned[1:]
    ]
    corrected = holm([pair.difference.p_value for pair in pairs])
    pairs = [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]
    left_out = {one.name: len(one.table) - len(kept.table) for one, kept in zip(contenders, aligned, strict=True)}
    return SideBySide(tuple(standings), tuple(pairs), left_out)


def align(contenders: Sequence[Contender], common: bool) -> list[Contender]:
    """Return the contenders with the same rows in the order of the first, `common`: those that all of them have."""
    first = contenders[0]
    if all(_same_rows(first.table, each.table) for each in contenders[1:]):
        return _agreeing(list(contenders))
    positions = [dict(zip(_keys(each.table), range(len(each.table)), strict=True)) for each in contenders]
    shared = [key for key in positions[0] if all(key in others for others in positions[1:])]
    for each in contenders:
        if len(shared) < len(each.table) and not common:
            raise ManifestError(
                f"'{first.name}' and the others were not scored on the same clips ({len(shared)} rows in common, "
                f"'{each.name}' has {len(each.table)}); score what is missing, or compare on the common clips with "
                "--common."
            )
    if not shared:
        raise ManifestError("the tables have no clip in common; look at clip_id and condition in each.")
    aligned = []
    for each, position in zip(contenders, positions, strict=True):
        at = np.array([position[key] for key in shared])
        aligned.append(replace(each, table=each.table.take(at)))
    return _agreeing(aligned)


def _same_rows(one: ScoreTable, other: ScoreTable) -> bool:
    return np.array_equal(one.clip_id, other.clip_id) and np.array_equal(one.condition, other.condition)


def _keys(table: ScoreTable) -> Iterator[tuple[str, str]]:
    return zip(table.clip_id.tolist(), table.condition.tolist(), strict=True)


def _agreeing(aligned: list[Contender]) -> list[Contender]:
    """Return `aligned`. Raises ManifestError where a table disagrees with the first about a clip's label or group."""
    one = aligned[0]
    for other, column in ((other, column) for other in aligned[1:] for column in ("label", "group")):
        differing: NDArray[np.intp] = np.flatnonzero(getattr(one.table, column) != getattr(other.table, column))
        if differing.size:
            row = int(differing[0])
            raise ManifestError(
                f"clip '{one.table.clip_id[row]}' has the {column} '{getattr(one.table, column)[row]}' in "
                f"'{one.name}' and '{getattr(other.table, column)[row]}' in '{other.name}' ({differing.size} such "
                "clips); correct one of the tables."
            )
    return aligned


def _standing(contender: Contender, condition: str, table: ScoreTable) -> Standing:
    decided = decision_metrics(decide(table.score, contender.threshold), table.is_speech, table.group)
    return Standing(contender.name, condition, (*decided, auc_metric(table.score, table.is_speech, table.group)))


def _pair(one: Contender, other: Contender, condition: str, ours: ScoreTable, theirs: ScoreTable, seed: int) -> Pair:
    a, b = decide(ours.score, one.threshold), decide(theirs.score, other.threshold)
    difference = compare_balanced_accuracy(a, b, ours.is_speech, ours.group, seed)
    beside = [mcnemar_exact(a == ours.is_speech, b == ours.is_speech)]
    if min(np.count_nonzero(ours.is_speech), np.count_nonzero(~ours.is_speech)) > 1:
        beside.append(delong(ours.score, theirs.score, ours.is_speech))
    return Pair(one.name, other.name, condition, difference, difference.p_value, tuple(beside))
