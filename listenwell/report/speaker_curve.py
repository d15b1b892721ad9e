"""The learning curve over training speakers as tables: one per test set, the fewest speakers first."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from listenwell.report.ladder import mean_over_seeds
from listenwell.report.results import StudyResults, distinct
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers
from listenwell.report.wording import (
    DASH,
    NOTHING,
    condition_title,
    format_difference,
    format_difference_interval,
    format_interval,
    verdict_of,
)

TITLE = "Learning curve over training speakers"


def rows_of_curve(results: StudyResults, test_set: str) -> list[dict[str, Any]]:
    """The rows of the curve on one test set, the fewest speakers first; none where the study drew no curve."""
    curve: Mapping[str, Any] = results.raw["speaker_curve"] or {"rows": []}
    return [row for row in curve["rows"] if row["test_set"] == test_set]


def speaker_curve_tables(results: StudyResults) -> list[Table]:
    """Return one table per test set: points down, balanced accuracy and gain under each condition across."""
    return [_table(results, name, rows) for name in results.test_sets if (rows := rows_of_curve(results, name))]


def _table(results: StudyResults, test_set: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    points = results.raw["speaker_curve"]["points"]
    conditions = distinct(row["condition"] for row in rows)
    cells = {(row["arm"], row["condition"]): row for row in rows}
    heads = list(numbers("Training speakers", "Speech clips", "Steps"))
    for condition in conditions:
        detail = condition_title(condition)
        heads += [Column("Balanced accuracy", detail), Column("Gain over the step before", detail)]
    lines = []
    for point in points:
        line = [Cell(str(point["n_speakers"]), f"{100 * point['share']:g} %")]
        line += [Cell(_range(fit[name] for fit in point["fits"])) for name in ("n_speech_clips", "n_steps")]
        for condition in conditions:
            row = cells[point["arm"], condition]
            interval = format_interval(row["median_seed"]["low"], row["median_seed"]["high"])
            line += [Cell(mean_over_seeds(row), interval), _gain_cell(row["gain"])]
        lines.append(TableRow(tuple(line), point is points[-1]))
    return Table(f"{TITLE}, {results.title_of(test_set)}", tuple(heads), tuple(lines), _note(points))


def _gain_cell(gain: Mapping[str, Any] | None) -> Cell:
    if gain is None:
        return Cell(NOTHING)
    interval = format_difference_interval(gain["low"], gain["high"])
    return Cell(f"{verdict_of(gain['low'], gain['high'])} {format_difference(gain['difference'])}", interval)


def _range(values: Iterable[int]) -> str:
    """One number, or the least and the greatest where seeds differ."""
    found = sorted(set(values))
    return f"{found[0]}{DASH}{found[-1]}" if len(found) > 1 else str(found[0])


def _note(points: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "The study's own config, each seed on its own draw of the training speakers, smaller draws inside larger ones; "
        "all other training sounds are kept. Balanced accuracy at each fit's calibrated threshold: the mean over "
        "seeds, ± half of its t interval over seeds; in brackets the interval of the median seed, which counts groups. "
        "A gain is the mean over seeds; its interval counts the groups of the test, not who was drawn to train."
    )
    if len({fit["n_steps"] for point in points for fit in point["fits"]}) > 1:
        note += " Fewer clips also took fewer steps here; with train.clips_per_epoch every point trains equally long."
    return note
