"""What training did, as tables: each fit's epochs, how far the seeds agree, the curve over training speakers.

Whether a fit overfitted is said by the rule of training itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from listenwell.report.appendix import plain_table
from listenwell.report.ladder import mean_over_seeds
from listenwell.report.results import CLEAN, StudyResults, distinct
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers, texts
from listenwell.report.wording import (
    DASH,
    NOTHING,
    condition_title,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    verdict_of,
)
from listenwell.train.overfitting import EPOCHS, describe_overfitting

MEASURES = ("train_loss", "dev_loss", "dev_balanced_accuracy_at_0", "dev_auc")
AGREEMENT_NOTE = (
    "Each seed at its own calibrated threshold. Errors under every seed are the data's or the recipe's: look at them "
    "first, no further seed mends them. Errors under one seed alone are chance of training."
)
CURVE_TITLE = "Learning curve over training speakers"


def history_table(fit: Mapping[str, Any]) -> Table:
    """Return one row per epoch of a fit; the best epoch, by dev loss, is the main row."""
    rows = tuple(
        TableRow(
            (
                Cell(str(record["epoch"])),
                Cell(str(record["step"])),
                *(Cell(format_number(record[name])) for name in MEASURES),
                Cell(f"{record['learning_rate']:.2g}"),
            ),
            record["epoch"] == fit["best_epoch"],
        )
        for record in fit["history"]
    )
    heads = numbers("Epoch", "Step", "Train loss", "Dev loss", "Dev balanced accuracy at 0", "Dev AUC", "Learning rate")
    return Table(f"Fit {fit['name']}, seed {fit['seed']}", heads, rows)


def overfitting_sentence(fit: Mapping[str, Any]) -> str:
    """Say whether the fit overfitted; `history` holds at least one epoch."""
    named = describe_overfitting(fit["history"], fit["best_epoch"])
    if named:
        return named
    best = next(record for record in fit["history"] if record["epoch"] == fit["best_epoch"])
    last = fit["history"][-1]
    at_best = (
        f"Dev loss was lowest, {format_number(best['dev_loss'])}, after epoch {best['epoch']} "
        f"(train loss {format_number(best['train_loss'])})"
    )
    if last is best:
        return f"{at_best}, the last one: no overfitting up to there, and more epochs might still help."
    return (
        f"{at_best}; after the last epoch, {last['epoch']}, it was {format_number(last['dev_loss'])} (train loss "
        f"{format_number(last['train_loss'])}): no {EPOCHS} epochs in a row with rising dev and falling train loss, so "
        "no overfitting is named; the weights of the best epoch are used."
    )


def seed_agreement_tables(results: StudyResults) -> list[Table]:
    """Return the tables of every test set; none for a study of one seed."""
    tables: list[Table | None] = []
    for test_set in results.test_sets:
        records = [each for each in results.raw["seed_agreement"] if each["test_set"] == test_set]
        if records:
            title = results.title_of(test_set)
            tables += [_agreement(f"{title}: how far the seeds agree", records), _wrong_under_all(title, records)]
    return [table for table in tables if table is not None]


def _agreement(caption: str, records: Sequence[Mapping[str, Any]]) -> Table:
    heads = (Column("Condition", is_number=False), *texts("Seeds"), Column("All agree"))
    heads += numbers("Wrong under every seed", "Wrong under one seed alone")
    rows = []
    for record in records:
        agreement, by_one, by_all = record["agreement"], record["wrong_by"][0], record["wrong_by"][-1]
        cells = [
            Cell(condition_title(record["condition"]), count_phrase(agreement["n"], agreement["n_groups"])),
            Cell(", ".join(map(str, record["seeds"]))),
            Cell(format_number(agreement["value"]), format_interval(agreement["low"], agreement["high"])),
            *(Cell(count_phrase(each["n"], each["n_groups"])) for each in (by_all, by_one)),
        ]
        rows.append(TableRow(tuple(cells)))
    return Table(caption, heads, tuple(rows), AGREEMENT_NOTE)


def _wrong_under_all(title: str, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """The clean clips wrong under every seed; all of them, or the first that results.json lists."""
    clean = next((record for record in records if record["condition"] == CLEAN), None)
    if clean is None:
        return None
    listed, n = clean["wrong_by_all"], clean["wrong_by"][-1]["n"]
    shown = f", the first {len(listed)} of {n}" if len(listed) < n else f" ({n})"
    rows = [(each["clip_id"], each["group"], each["label"]) for each in listed]
    return plain_table(f"{title}: clean clips wrong under every seed{shown}", texts("Clip", "Group", "Label"), rows)


def rows_of_curve(results: StudyResults, test_set: str) -> list[dict[str, Any]]:
    """The rows of the curve on one test set, the fewest speakers first; none where the study drew no curve."""
    curve: Mapping[str, Any] = results.raw["speaker_curve"] or {"rows": []}
    return [row for row in curve["rows"] if row["test_set"] == test_set]


def speaker_curve_tables(results: StudyResults) -> list[Table]:
    """Return one table per test set: points down, balanced accuracy and gain under each condition across."""
    return [_curve_table(results, name, rows) for name in results.test_sets if (rows := rows_of_curve(results, name))]


def _curve_table(results: StudyResults, test_set: str, rows: Sequence[Mapping[str, Any]]) -> Table:
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
    return Table(f"{CURVE_TITLE}, {results.title_of(test_set)}", tuple(heads), tuple(lines), _curve_note(points))


def _gain_cell(gain: Mapping[str, Any] | None) -> Cell:
    if gain is None:
        return Cell(NOTHING)
    interval = format_difference_interval(gain["low"], gain["high"])
    return Cell(f"{verdict_of(gain['low'], gain['high'])} {format_difference(gain['difference'])}", interval)


def _range(values: Iterable[int]) -> str:
    """One number, or the least and the greatest where seeds differ."""
    found = sorted(set(values))
    return f"{found[0]}{DASH}{found[-1]}" if len(found) > 1 else str(found[0])


def _curve_note(points: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "The study's own config, each seed on its own draw of the training speakers, smaller draws inside larger ones; "
        "all other training sounds are kept. Balanced accuracy at each fit's calibrated threshold: the mean over "
        "seeds, ± half of its t interval over seeds; in brackets the interval of the median seed, which counts groups. "
        "A gain is the mean over seeds; its interval counts the groups of the test, not who was drawn to train."
    )
    if len({fit["n_steps"] for point in points for fit in point["fits"]}) > 1:
        note += " Fewer clips also took fewer steps here; with train.clips_per_epoch every point trains equally long."
    return note
