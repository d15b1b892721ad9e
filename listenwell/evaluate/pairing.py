"""Several methods on the same clips: rows brought into one order, each measured, the first compared with the others.

Nothing is dropped unasked: methods that scored other clips are refused unless `common` asks for the clips that all
scored, and then it is said how many were left out. Labels and groups must agree. They are compared as the methods of a
study are (`methods.compare_methods`), none as primary; the difference of the AUCs stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from listenwell.errors import ManifestError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import PairedDifference, compare_auc
from listenwell.evaluate.methods import (
    CALIBRATED,
    Comparison,
    JudgedMethod,
    Row,
    compare_methods,
    decision_metrics,
    versions,
)
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
class SideBySide:
    """Every method under every condition; the first against each other one; how many rows another one lacks.

    aucs: condition -> opponent -> difference of the AUCs, of those that give scores and not decisions.
    """

    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    aucs: Mapping[str, Mapping[str, PairedDifference]]
    left_out: Mapping[str, int]


def compare_contenders(contenders: Sequence[Contender], seed: int, common: bool = False) -> SideBySide:
    """Measure all and compare the first with each other one, by condition.

    Raises ManifestError when clips differ (without `common`), labels or groups disagree, or a class is missing.
    """
    aligned = _align(contenders, common)
    first, *others = aligned
    tables = {contender.name: versions(contender.table) for contender in aligned}
    methods = [JudgedMethod(c.name, c.table, c.threshold, c.threshold) for c in aligned]
    return SideBySide(
        [_measure(each, name, tables[each.name][name]) for name in tables[first.name] for each in aligned],
        compare_methods({"": methods}, lambda comparison: False, seed, [CALIBRATED]),
        {
            condition: {
                other.name: compare_auc(ours.score, theirs.score, ours.is_speech, ours.group)
                for other in others
                for theirs in [tables[other.name][condition]]
                if not (ours.is_decision or theirs.is_decision)
            }
            for condition, ours in tables[first.name].items()
        },
        {one.name: len(one.table) - len(kept.table) for one, kept in zip(contenders, aligned, strict=True)},
    )


def _measure(contender: Contender, condition: str, table: ScoreTable) -> Row:
    metrics = decision_metrics(decide(table.score, contender.threshold), table.is_speech, table.group)
    if not table.is_decision:
        metrics.append(auc_metric(table.score, table.is_speech, table.group))
    return Row(contender.name, CALIBRATED, contender.threshold, "", condition, tuple(metrics))


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
