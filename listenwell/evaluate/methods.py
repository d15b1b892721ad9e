"""Judge methods on the same clips: one row per method, threshold, test set and condition, measures with intervals.

A method is judged at its default threshold and at the one chosen on its own dev scores. Conditions of one kind are
also pooled ("noisy": every SNR together). Methods are compared in pairs on the same clips: the threshold of each chosen
on the same dev, and beside it the opponent at its default, which may suit it better. A few comparisons are declared
beforehand as primary and corrected by Holm among themselves; all others are corrected together (`comparison.max_t`).

Measures come in three families: of decisions (at a threshold), of ranking (at none), of probabilities (where scores
have been given a meaning as such). Breakdowns of a table (by group, sound class, corpus) get the share right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.comparison import (
    Outcome,
    PairedDifference,
    compare_balanced_accuracy,
    correct_together,
    holm,
    name_contributions,
    outcome_of,
)
from listenwell.evaluate.intervals import (
    Groups,
    Metric,
    balanced_accuracy_interval,
    number_groups,
    proportion,
)
from listenwell.evaluate.metrics import EQUAL_COSTS, Bools, Costs, Floats, decide, require_classes
from listenwell.evaluate.probabilities import probability_metrics
from listenwell.evaluate.ranking import ranking_metrics
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.shares import wilson

ZERO_SHOT, FINE_TUNED = "zero-shot", "fine-tuned"
"""The methods that every study has: the base model as it is, and the delivered fit."""
NOISY = "noisy"
DEFAULT, CALIBRATED = "default", "calibrated"
Part = Literal["group", "category", "corpus"]
NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True, slots=True)
class PartMetric:
    """The share of right decisions on the clips of one label and one group, sound class or corpus."""

    part: str
    label: str
    metric: Metric


def summarise(
    table: ScoreTable,
    threshold: float,
    seed: int,
    to_probability: Callable[[Floats], Floats] | None = None,
    costs: Costs = EQUAL_COSTS,
    prior: float = 0.5,
) -> list[Metric]:
    """Return every measure of `table`: decisions at `threshold`, ranking, and probabilities where scores
    can be turned into them.

    prior: the share of speech that the probabilities are meant for. Raises ManifestError when a class is missing.
    `seed` keys the draws of groups.
    """
    group, _ = number_groups(table.group)
    metrics = decision_metrics(decide(table.score, threshold), table.is_speech, group)
    metrics += ranking_metrics(table.score, table.is_speech, group, seed, costs)
    if to_probability is not None:
        metrics += probability_metrics(to_probability(table.score), table.is_speech, group, prior, costs)
    return metrics


def decision_metrics(says_speech: Bools, is_speech: Bools, group: Groups) -> list[Metric]:
    """Return balanced accuracy, recall, specificity and accuracy; arrays (n,)."""
    require_classes(is_speech, "balanced accuracy")
    return [
        balanced_accuracy_interval(says_speech, is_speech, group),
        proportion("recall", says_speech[is_speech], group[is_speech]),
        proportion("specificity", ~says_speech[~is_speech], group[~is_speech]),
        proportion("accuracy", says_speech == is_speech, group),
    ]


def parse_parts(text: str) -> tuple[Part, ...]:
    """Return the columns named in "group,category". Raises ConfigError for one that is not a Part."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known: tuple[Part, ...] = get_args(Part)
    for name in names:
        if name not in known:
            raise ConfigError(f"--by: cannot cut by '{name}'; expected {', '.join(known)}.")
    return tuple(part for part in known if part in names)


def summarise_parts(table: ScoreTable, threshold: float, part: Part) -> list[PartMetric]:
    """Return the share right for every value of a column and label, the worst first; "" where a clip has none.

    A part that is one group is measured for that group alone, clip by clip, which its note says.
    """
    is_right = decide(table.score, threshold) == table.is_speech
    column = getattr(table, part)
    found = []
    for label in np.unique(table.label):
        for value in np.unique(column[table.label == label]):
            rows = (column == value) & (table.label == label)
            found.append(PartMetric(str(value), str(label), _part_metric(is_right[rows], table.group[rows])))
    return sorted(found, key=lambda each: (each.metric.value, each.metric.high, each.label, each.part))


def _part_metric(is_right: Bools, group: Groups) -> Metric:
    metric = proportion("right", is_right, group)
    if metric.n_groups > 1:
        return metric
    low, high = wilson(metric.value, metric.n, NORMAL_QUANTILE)
    return Metric("right", metric.value, low, high, metric.n, 1, "Wilson", "says nothing about other groups")


@dataclass(frozen=True, slots=True)
class JudgedMethod:
    """A method's scores on one test set (all conditions) and its two thresholds.

    calibrated: None where every fold has its own; `table` then holds scores less their fold's threshold. at_default:
    the scores that the default threshold decides, where they are others than those of `table`.
    """

    name: str
    table: ScoreTable
    default_threshold: float
    calibrated: float | None
    at_default: ScoreTable | None = None

    def decided(self) -> dict[str, dict[str, tuple[ScoreTable, Bools]]]:
        """By condition, and every SNR together, and by threshold: the scores, and which clips are called speech."""
        default = versions(self.table if self.at_default is None else self.at_default)
        return {
            condition: {
                DEFAULT: (default[condition], decide(default[condition].score, self.default_threshold)),
                CALIBRATED: (table, decide(table.score, self.calibrated or 0.0)),
            }
            for condition, table in versions(self.table).items()
        }


@dataclass(frozen=True, slots=True)
class Row:
    """How one method does at one threshold under one condition of one test set.

    threshold_value: None where every fold has its own.
    """

    method: str
    threshold: str
    threshold_value: float | None
    test_set: str
    condition: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Balanced accuracy of `method` (calibrated) minus that of `opponent` at one of its thresholds.

    p_adjusted: corrected by Holm among the primary comparisons, by max-t among the others.
    """

    method: str
    opponent: str
    opponent_threshold: str
    test_set: str
    condition: str
    result: PairedDifference
    is_primary: bool = False
    p_adjusted: float = 1.0

    @property
    def outcome(self) -> Outcome:
        """Better or worse where the interval and the corrected p value both say so."""
        return outcome_of(self.result, self.p_adjusted)


def judge(method: JudgedMethod, test_set: str, seed: int) -> list[Row]:
    """Return the method's rows on one test set: each condition, and the pooled noisy ones, at both thresholds."""
    rows = []
    values = {DEFAULT: method.default_threshold, CALIBRATED: method.calibrated}
    for condition, by_threshold in method.decided().items():
        ranking: list[Metric] = []
        for name, (table, says) in by_threshold.items():
            if not ranking or method.at_default is not None:
                ranking = ranking_metrics(table.score, table.is_speech, table.group, seed)
            metrics = (*decision_metrics(says, table.is_speech, table.group), *ranking)
            rows.append(Row(method.name, name, values[name], test_set, condition, metrics))
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


def compare_methods(
    test_sets: Mapping[str, Sequence[JudgedMethod]],
    is_primary: Callable[[Comparison], bool],
    seed: int,
    thresholds: Sequence[str] = (CALIBRATED, DEFAULT),
) -> list[Comparison]:
    """Compare the first method of each test set with each of the others, condition by condition, p values corrected.

    thresholds: those of the opponents. Raises ManifestError where two methods were not scored on the same clips.
    """
    found = [
        each
        for test_set, (method, *opponents) in test_sets.items()
        for each in _compare(method, opponents, test_set, seed, thresholds)
    ]
    primary = [is_primary(comparison) for comparison, _ in found]
    others = [contributions for (_, contributions), first in zip(found, primary, strict=True) if not first]
    of_primary = iter(holm([each.result.p_value for (each, _), first in zip(found, primary, strict=True) if first]))
    of_others = iter(correct_together(others, seed) if others else [])
    return [
        replace(comparison, is_primary=first, p_adjusted=next(of_primary if first else of_others))
        for (comparison, _), first in zip(found, primary, strict=True)
    ]


def _compare(
    method: JudgedMethod, opponents: Sequence[JudgedMethod], test_set: str, seed: int, thresholds: Sequence[str]
) -> Iterator[tuple[Comparison, dict[str, float]]]:
    """Yield each comparison and what every group adds to it, groups named with their test set."""
    ours = method.decided()
    for opponent in opponents:
        theirs = opponent.decided()
        for condition, by_threshold in ours.items():
            table, says_speech = by_threshold[CALIBRATED]
            for name in thresholds:
                of_opponent, opposing = theirs[condition][name]
                _same_clips(method, opponent, table, of_opponent)
                result = compare_balanced_accuracy(says_speech, opposing, table.is_speech, table.group, seed)
                by_group = name_contributions(
                    says_speech == table.is_speech, opposing == table.is_speech, table.is_speech, table.group
                )
                yield (
                    Comparison(method.name, opponent.name, name, test_set, condition, result),
                    {f"{test_set} {group}": share for group, share in by_group.items()},
                )


def _same_clips(method: JudgedMethod, opponent: JudgedMethod, ours: ScoreTable, theirs: ScoreTable) -> None:
    if not np.array_equal(ours.clip_id, theirs.clip_id):
        raise ManifestError(
            f"'{method.name}' and '{opponent.name}' were not scored on the same clips ({len(ours)} and {len(theirs)} "
            "rows); score both again before comparing them."
        )
