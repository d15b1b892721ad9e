"""Tables of a study as plain values: the web page, the Markdown file and the terminal print the same strings.

A cell is a number with its 95 % interval beside it. Columns of one test set rest on the same clips, so their count of
clips and groups stands in the column's head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import CALIBRATED, NOISY, Comparison, Row
from listenwell.report.results import (
    CHANCE,
    CLEAN,
    FINE_TUNED,
    StudyResults,
    balanced_accuracy_of,
    distinct,
    metric_of,
    shown_rows,
)
from listenwell.report.wording import (
    BELOW_CHANCE,
    NOTHING,
    condition_title,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    format_p,
    format_threshold,
    method_title,
    verdict_of,
)

MAIN_CONDITIONS = (CLEAN, NOISY, "200ms", "100ms")
MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Speech found",
    "specificity": "Other sounds rejected",
    "roc_auc": "AUC",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and in smaller print what belongs to it."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column; `is_number` columns are set flush right."""

    title: str
    detail: str = ""
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row; `is_main` marks the row the study is about."""

    cells: tuple[Cell, ...]
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is the row's name. `note` stands below it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    note: str = ""


def texts(*titles: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(title, is_number=False) for title in titles)


def numbers(*titles: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(title) for title in titles)


def main_tables(results: StudyResults) -> list[Table]:
    """Return one table per test set: methods and thresholds down, the main conditions across."""
    return [_main_table(results, test_set) for test_set in results.test_sets]


def _main_table(results: StudyResults, test_set: str) -> Table:
    present = results.conditions_of(test_set)
    conditions = [condition for condition in MAIN_CONDITIONS if condition in present] or present
    rows = []
    for method, threshold in shown_rows(results):
        judged = [results.find_row(method, threshold, test_set, condition) for condition in conditions]
        name = Cell(method_title(method), threshold)
        cells = (name, *(_metric_cell(balanced_accuracy_of(row)) if row else Cell(NOTHING) for row in judged))
        rows.append(TableRow(cells, (method, threshold) == (FINE_TUNED, CALIBRATED)))
    heads = (_condition_head(results, test_set, condition) for condition in conditions)
    columns = (Column("Method", "threshold", is_number=False), *heads)
    caption = f"{results.title_of(test_set)}: balanced accuracy, with 95 % intervals"
    return Table(caption, columns, tuple(rows), _below_chance_note(results, test_set, conditions))


def _below_chance_note(results: StudyResults, test_set: str, conditions: Sequence[str]) -> str:
    """Which methods rank the other sounds above speech beyond doubt, and why they may."""
    shown = (row for row in results.rows if row.test_set == test_set and row.condition in conditions)
    worse = [row for row in shown if metric_of(row, "roc_auc").high < CHANCE]
    notes = []
    for method in distinct(row.method for row in worse):
        where = distinct(condition_title(row.condition) for row in worse if row.method == method)
        why = f": {BELOW_CHANCE[method]}" if method in BELOW_CHANCE else ""
        notes.append(f"{method_title(method)} ranks the other sounds above speech ({', '.join(where)}){why}.")
    return " ".join(notes)


def _condition_head(results: StudyResults, test_set: str, condition: str) -> Column:
    metrics = [balanced_accuracy_of(r) for r in results.rows if (r.test_set, r.condition) == (test_set, condition)]
    return Column(condition_title(condition), "; ".join(distinct(count_phrase(m.n, m.n_groups) for m in metrics)))


def full_tables(results: StudyResults) -> list[Table]:
    """Return one table per test set with every condition, threshold and measure."""
    return [_full_table(results, test_set) for test_set in results.test_sets]


def _full_table(results: StudyResults, test_set: str) -> Table:
    rows = []
    for condition in results.conditions_of(test_set):
        for row in (r for r in results.rows if (r.test_set, r.condition) == (test_set, condition)):
            cells = (
                Cell(condition_title(condition), _class_counts(row)),
                Cell(method_title(row.method), f"{row.threshold}, {format_threshold(row.threshold_value)}"),
                *(measure_cell(row, name) for name in MEASURES),
            )
            rows.append(TableRow(cells, (row.method, row.threshold) == (FINE_TUNED, CALIBRATED)))
    return Table(
        f"{results.title_of(test_set)}: every condition, with 95 % intervals",
        texts("Condition", "Method") + numbers(*MEASURES.values()),
        tuple(rows),
        "Clips and groups under a condition: of speech + of other sounds; beside a method its threshold.",
    )


def _class_counts(row: Row) -> str:
    """Clips and groups behind the two halves: "50 + 60 clips, 10 + 20 groups"."""
    speech, other = metric_of(row, "recall"), metric_of(row, "specificity")
    return f"{speech.n} + {other.n} clips, {speech.n_groups} + {other.n_groups} groups"


def measure_cell(row: Row, name: str) -> Cell:
    """One measure of a row with its interval, a dash where the row lacks it."""
    found = [metric for metric in row.metrics if metric.name == name]
    return _metric_cell(found[0]) if found else Cell(NOTHING)


def comparison_tables(results: StudyResults) -> list[Table]:
    """Return one table per test set that has comparisons: conditions down, opponents across."""
    return [_comparison_table(results, name) for name in distinct(c.test_set for c in results.comparisons)]


def _comparison_table(results: StudyResults, test_set: str) -> Table:
    comparisons = [c for c in results.comparisons if c.test_set == test_set]
    opponents = distinct(c.opponent for c in comparisons)
    rows = []
    for condition in distinct(c.condition for c in comparisons):
        found = [results.find_comparison(opponent, test_set, condition) for opponent in opponents]
        counts = distinct(count_phrase(c.result.n, c.result.n_groups) for c in found if c is not None)
        name = Cell(condition_title(condition), "; ".join(counts))
        rows.append(TableRow((name, *(_comparison_cell(c) for c in found))))
    columns = (Column("Condition", is_number=False), *numbers(*(f"against {method_title(name)}" for name in opponents)))
    notes = distinct(c.result.note for c in comparisons if c.result.note)
    caption = f"{results.title_of(test_set)}: {method_title(comparisons[0].method)} minus opponent, balanced accuracy"
    return Table(caption, columns, tuple(rows), "; ".join(notes))


def _comparison_cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(NOTHING)
    result = comparison.result
    interval = format_difference_interval(result.low, result.high)
    detail = f"{interval}, p {format_p(result.p_value)}, {comparison.opponent_threshold}"
    return Cell(f"{verdict_of(result.low, result.high)} {format_difference(result.difference)}", detail)


def _metric_cell(metric: Metric) -> Cell:
    return Cell(format_number(metric.value), format_interval(metric.low, metric.high))
