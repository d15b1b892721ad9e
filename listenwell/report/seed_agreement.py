"""How far the seeds agree, as tables: the shares and counts, and the clean clips that every seed decides wrongly."""

from collections.abc import Mapping, Sequence
from typing import Any

from listenwell.report.appendix import plain_table
from listenwell.report.results import CLEAN, StudyResults
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers, texts
from listenwell.report.wording import condition_title, count_phrase, format_interval, format_number

NOTE = (
    "Each seed at its own calibrated threshold. Errors under every seed are the data's or the recipe's: look at them "
    "first, no further seed mends them. Errors under one seed alone are chance of training."
)


def seed_agreement_tables(results: StudyResults) -> list[Table]:
    """Return the tables of every test set; none for a study of one seed."""
    tables: list[Table | None] = []
    for test_set in results.test_sets:
        records = [each for each in results.raw["seed_agreement"] if each["test_set"] == test_set]
        if records:
            title = results.title_of(test_set)
            tables += [_counts(f"{title}: how far the seeds agree", records), _listed(title, records)]
    return [table for table in tables if table is not None]


def _counts(caption: str, records: Sequence[Mapping[str, Any]]) -> Table:
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
    return Table(caption, heads, tuple(rows), NOTE)


def _listed(title: str, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """The clean clips wrong under every seed; all of them, or the first that results.json lists."""
    clean = next((record for record in records if record["condition"] == CLEAN), None)
    if clean is None:
        return None
    listed, n = clean["wrong_by_all"], clean["wrong_by"][-1]["n"]
    shown = f", the first {len(listed)} of {n}" if len(listed) < n else f" ({n})"
    rows = [(each["clip_id"], each["group"], each["label"]) for each in listed]
    return plain_table(f"{title}: clean clips wrong under every seed{shown}", texts("Clip", "Group", "Label"), rows)
