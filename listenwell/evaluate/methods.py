"""Judge several methods on the same clips: one row per method, threshold, test set and condition.

A method is judged at its default threshold and at the one chosen on its own dev scores. Conditions of one kind are
also pooled ("noisy": every SNR together). Methods are compared in pairs on the same clips. The opponent enters with
whichever of its two thresholds does better on that very test: a choice in its favour, so a claim against it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from listenwell.errors import ManifestError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import PairedDifference, compare_balanced_accuracy
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.ranking import ranking_metrics
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.summary import decision_metrics

NOISY = "noisy"
DEFAULT, CALIBRATED = "default", "calibrated"


@dataclass(frozen=True, slots=True)
class JudgedMethod:
    """A method's scores on one test set (all conditions) and its two thresholds."""

    name: str
    table: ScoreTable
    default_threshold: float
    calibrated: Threshold


@dataclass(frozen=True, slots=True)
class Row:
    """How one method does at one threshold under one condition of one test set."""

    method: str
    threshold: str
    threshold_value: float
    test_set: str
    condition: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Balanced accuracy of `method` (calibrated) minus that of `opponent` at its better threshold."""

    method: str
    opponent: str
    opponent_threshold: str
    test_set: str
    condition: str
    result: PairedDifference


def judge(method: JudgedMethod, test_set: str, seed: int) -> list[Row]:
    """Return the method's rows on one test set: each condition, and the pooled noisy ones, at both thresholds."""
    rows = []
    for condition, table in versions(method.table).items():
        ranking = ranking_metrics(table.score, table.is_speech, table.group, seed)
        for name, value in ((DEFAULT, method.default_threshold), (CALIBRATED, method.calibrated.value)):
            metrics = (*decision_metrics(decide(table.score, value), table.is_speech, table.group), *ranking)
            rows.append(Row(method.name, name, value, test_set, condition, metrics))
    return rows


def versions(table: ScoreTable) -> dict[str, ScoreTable]:
    """The table cut by condition, in the order they stand, and every SNR condition together under NOISY."""
    conditions = list(dict.fromkeys(table.condition.tolist()))
    if len(conditions) == 1:
        parts = {conditions[0]: table}
    else:
        parts = {condition: table.select(table.condition == condition) for condition in conditions}
    if np.isfinite(table.snr_db).any():
        parts[NOISY] = table.select(np.isfinite(table.snr_db))
    return parts


def compare(method: JudgedMethod, opponents: Sequence[JudgedMethod], test_set: str, seed: int) -> list[Comparison]:
    """Compare `method` at its calibrated threshold with each opponent, condition by condition."""
    comparisons = []
    ours = versions(method.table)
    for opponent in opponents:
        theirs: Mapping[str, ScoreTable] = versions(opponent.table)
        for condition, table in ours.items():
            _same_clips(method, opponent, table, theirs[condition])
            name, decisions = _better_decisions(opponent, theirs[condition])
            result = compare_balanced_accuracy(
                decide(table.score, method.calibrated.value), decisions, table.is_speech, table.group, seed
            )
            comparisons.append(Comparison(method.name, opponent.name, name, test_set, condition, result))
    return comparisons


def _same_clips(method: JudgedMethod, opponent: JudgedMethod, ours: ScoreTable, theirs: ScoreTable) -> None:
    if not np.array_equal(ours.clip_id, theirs.clip_id):
        raise ManifestError(
            f"'{method.name}' and '{opponent.name}' were not scored on the same clips ({len(ours)} and {len(theirs)} "
            "rows); score both again before comparing them."
        )


def _better_decisions(method: JudgedMethod, table: ScoreTable) -> tuple[str, Bools]:
    thresholds = {DEFAULT: method.default_threshold, CALIBRATED: method.calibrated.value}
    decisions = {name: decide(table.score, value) for name, value in thresholds.items()}
    best = max(decisions, key=lambda name: balanced_accuracy(decisions[name], table.is_speech))
    return best, decisions[best]
