"""Two finished studies side by side as one page: settings, balanced accuracy on the same clips, thresholds, groups.

The page calls them A and B, in the order given; every difference is A minus B. Knows nothing of run folders or scores:
`listenwell.tasks.compare` reads those.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from listenwell.config import CHANGES_NOTHING
from listenwell.evaluate.methods import CALIBRATED, NOISY
from listenwell.evaluate.pairing import Pair, SideBySide
from listenwell.report.answer import Answer, summarise_verdicts
from listenwell.report.evidence import Statement, flatten_provenance, leak_statement, plain_table, seal_statement
from listenwell.report.rendering import render_page
from listenwell.report.results import CLEAN, StudyResults
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers, texts
from listenwell.report.wording import (
    NOTHING,
    condition_phrase,
    condition_title,
    count_phrase,
    format_count_difference,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    format_p,
    format_threshold,
    method_title,
    verdict_of,
)

TEMPLATE = "comparison.html.j2"
LETTERS = ("A", "B")
MOST_GROUPS = 15


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A finished study and the folder it was given by."""

    folder: str
    results: StudyResults


@dataclass(frozen=True, slots=True)
class GroupChange:
    """How many of a group's n clean clips of one label A and B decide rightly, each at its calibrated threshold."""

    group: str
    label: str
    n: int
    n_right_a: int
    n_right_b: int

    @property
    def gain(self) -> int:
        """Clips that A has right more than B."""
        return self.n_right_a - self.n_right_b


@dataclass(frozen=True, slots=True)
class ComparedTestSet:
    """One test set of both: by threshold ("default", "calibrated") A against B, and how groups differ."""

    name: str
    at: Mapping[str, SideBySide]
    groups: Sequence[GroupChange]


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs by one of their methods on the test sets both have; warnings come before anything else."""

    runs: tuple[ComparedRun, ComparedRun]
    method: str
    test_sets: Sequence[ComparedTestSet]
    warnings: Sequence[str]


def comparison_page(comparison: RunComparison) -> str:
    """Return the page: one file that loads nothing, under the same policy and rules as a study's report."""
    runs = list(zip(LETTERS, comparison.runs, strict=True))
    results = [run.results for run in comparison.runs]
    titled = [(results[0].title_of(test_set.name), test_set) for test_set in comparison.test_sets]
    values = {
        "runs": runs,
        "method": method_title(comparison.method),
        "warnings": comparison.warnings,
        "answers": answer_comparison(comparison),
        "statements": [(letter, each) for letter, run in runs for each in _statements(run)],
        "config_table": _beside("Settings that differ", [_settings(each) for each in results], only_differing=True),
        "accuracy_tables": [_accuracy_table(title, test_set) for title, test_set in titled],
        "threshold_table": _beside("Thresholds of both", [_thresholds(each, comparison.method) for each in results]),
        "group_tables": [table for title, test_set in titled for table in _group_tables(title, test_set)],
        "unchanged": [_say_unchanged(title, test_set) for title, test_set in titled],
        "provenance_table": _beside("What made them", [dict(flatten_provenance(each)) for each in results]),
    }
    return render_page(TEMPLATE, values)


def _statements(run: ComparedRun) -> list[Statement]:
    return [leak_statement(run.results), seal_statement(run.results)]


def answer_comparison(comparison: RunComparison) -> list[Answer]:
    """Return for each test set whether A is better than B there."""
    results = comparison.runs[0].results
    return [_answer(results.title_of(test_set.name), test_set) for test_set in comparison.test_sets]


def _answer(title: str, test_set: ComparedTestSet) -> Answer:
    """Whether A is better than B on one test set, clean and in noise, both at their calibrated thresholds."""
    pairs = test_set.at[CALIBRATED].pairs
    shown = [pair for pair in pairs if pair.condition in (CLEAN, NOISY)] or list(pairs[:1])
    verdicts = [verdict_of(pair.difference.low, pair.difference.high) for pair in shown]
    evidence = "; ".join(
        f"{verdict} {condition_phrase(pair.condition)}, {_difference_text(pair)} "
        f"({count_phrase(pair.difference.n, pair.difference.n_groups)})"
        for verdict, pair in zip(verdicts, shown, strict=True)
    )
    return Answer(f"{title}: is A better than B?", summarise_verdicts(verdicts), f"{title}: {evidence}.")


def _difference_text(pair: Pair) -> str:
    found = pair.difference
    return f"{format_difference(found.difference)} {format_difference_interval(found.low, found.high)}"


def _settings(results: StudyResults) -> dict[str, str]:
    """Dotted setting -> its value as JSON, without those that change no result."""
    config = {key: value for key, value in results.raw["config"].items() if key not in CHANGES_NOTHING}
    return dict(_dotted(config, ""))


def _dotted(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _thresholds(results: StudyResults, method: str) -> dict[str, str]:
    told = {"Default": format_threshold(results.raw["methods"][method]["default_threshold"])}
    if method in results.raw["thresholds"]:
        chosen = results.raw["thresholds"][method]
        told |= {
            "Calibrated on dev": format_threshold(chosen["value"]),
            "Chosen by": chosen["criterion"].replace("_", " "),
            "On dev": format_number(chosen["dev_value"]),
            "Dev rows": str(chosen["n"]),
            "Dev groups": str(chosen["n_groups"]),
            "Hash of the dev scores": chosen["dev_sha256"][:16],
        }
    return told


def _beside(caption: str, told: Sequence[Mapping[str, str]], *, only_differing: bool = False) -> Table | None:
    """One line per name, A's and B's value; where they differ the line is a main one. None where there is no line."""
    one, other = told
    rows = []
    for name in dict.fromkeys([*one, *other]):
        values = [each[name] if name in each else NOTHING for each in (one, other)]
        differs = values[0] != values[1]
        if differs or not only_differing:
            rows.append(TableRow(tuple(map(Cell, (name, *values))), differs and not only_differing))
    return Table(caption, texts("What", *LETTERS), tuple(rows)) if rows else None


def _accuracy_table(title: str, test_set: ComparedTestSet) -> Table:
    """Conditions down; A, B and A minus B across, at both thresholds."""
    heads = [Column("Condition", is_number=False)]
    for threshold in test_set.at:
        heads += [Column(head, threshold) for head in (*LETTERS, "A minus B")]
    rows = []
    for pair in test_set.at[CALIBRATED].pairs:
        counts = count_phrase(pair.difference.n, pair.difference.n_groups)
        cells = [Cell(condition_title(pair.condition), counts)]
        for threshold, side_by_side in test_set.at.items():
            cells += _accuracy_cells(side_by_side, pair.condition, with_p=threshold == CALIBRATED)
        rows.append(TableRow(tuple(cells)))
    return Table(f"{title}: balanced accuracy, with 95 % intervals", tuple(heads), tuple(rows))


def _accuracy_cells(side_by_side: SideBySide, condition: str, *, with_p: bool) -> list[Cell]:
    cells = [
        Cell(format_number(metric.value), format_interval(metric.low, metric.high))
        for standing in side_by_side.standings
        if standing.condition == condition
        for metric in standing.metrics
        if metric.name == "balanced_accuracy"
    ]
    (pair,) = [each for each in side_by_side.pairs if each.condition == condition]
    found = pair.difference
    p = f", p {format_p(pair.p_holm)}" if with_p else ""
    detail = f"{format_difference_interval(found.low, found.high)}{p}"
    return [*cells, Cell(f"{verdict_of(found.low, found.high)} {format_difference(found.difference)}", detail)]


def _group_tables(title: str, test_set: ComparedTestSet) -> list[Table]:
    """The groups that A decides better and those it decides worse, those with the largest change first."""
    better = sorted((g for g in test_set.groups if g.gain > 0), key=lambda g: (-g.gain, g.label, g.group))
    worse = sorted((g for g in test_set.groups if g.gain < 0), key=lambda g: (g.gain, g.label, g.group))
    made = [_group_table(f"{title}: groups that A decides {how}", own) for how, own in
            (("better", better), ("worse", worse))]  # fmt: skip
    return [table for table in made if table is not None]


def _group_table(caption: str, groups: Sequence[GroupChange]) -> Table | None:
    shown = f" ({len(groups)}), the first {MOST_GROUPS}" if len(groups) > MOST_GROUPS else f" ({len(groups)})"
    rows = [
        (
            each.group,
            each.label,
            str(each.n),
            str(each.n_right_a),
            str(each.n_right_b),
            format_count_difference(each.gain),
        )
        for each in groups[:MOST_GROUPS]
    ]
    heads = texts("Group", "Label") + numbers("Clips", "Right in A", "Right in B", "A minus B")
    return plain_table(caption + shown, heads, rows)


def _say_unchanged(title: str, test_set: ComparedTestSet) -> str:
    n_alike = sum(each.gain == 0 for each in test_set.groups)
    return f"{title}: {n_alike} of {len(test_set.groups)} groups have as many clips right in A as in B."
