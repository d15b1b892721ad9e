"""The measures every score table is reported with, each with its interval.

Three families: of decisions (at a threshold), of ranking (at none), of probabilities (where scores have been given a
meaning as such). Parts of a table (by group, sound class, corpus) get the share of right decisions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from listenwell.errors import ConfigError
from listenwell.evaluate.intervals import (
    Groups,
    Metric,
    balanced_accuracy_interval,
    number_groups,
    proportion,
    wilson,
)
from listenwell.evaluate.metrics import Bools, Costs, Floats, decide, require_classes
from listenwell.evaluate.probabilities import probability_metrics
from listenwell.evaluate.ranking import EQUAL_COSTS, ranking_metrics
from listenwell.evaluate.scores import ScoreTable

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
) -> list[Metric]:
    """Return every measure of `table`: decisions at `threshold`, ranking, and probabilities where scores
    can be turned into them.

    Raises ManifestError when a class is missing. `seed` keys the draws of groups.
    """
    group, _ = number_groups(table.group)
    metrics = decision_metrics(decide(table.score, threshold), table.is_speech, group)
    metrics += ranking_metrics(table.score, table.is_speech, group, seed, costs)
    if to_probability is not None:
        metrics += probability_metrics(to_probability(table.score), table.is_speech, group, seed)
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
