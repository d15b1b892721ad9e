"""The main tables of a study as plain text for a terminal; draws nothing, so it loads neither Jinja nor matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

from listenwell.report.arms import ladder_tables, search_tables, speaker_tables
from listenwell.report.results import read_results
from listenwell.report.tables import Table, main_tables


def format_table(results: dict[str, Any]) -> str:
    """Return the main tables as plain text for a terminal; `results` is what results.json holds.

    Raises ListenwellError when something is missing.
    """
    study = read_results(results)
    tables = [*main_tables(study), *ladder_tables(study), *search_tables(study.raw["search"])]
    return "\n\n".join(_format_plain(table) for table in tables)


def format_search(found: Mapping[str, Any]) -> str:
    """Return the ranked points of a search; `found` is what search.json holds."""
    return "\n\n".join(_format_plain(table) for table in search_tables(found))


def format_speakers(records: Sequence[Mapping[str, Any]]) -> str:
    """Return every arm's speakers, the hardest first; `records` is what loso.json holds."""
    return "\n\n".join(_format_plain(table) for table in speaker_tables(records))


def _format_plain(table: Table) -> str:
    lines = [tuple(column.title for column in table.columns), tuple(column.detail for column in table.columns)]
    lines += [tuple(str(cell) for cell in row.cells) for row in table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = [rule, table.note] if table.note else []
    return "\n".join([table.caption, rule, *padded[:2], rule, *padded[2:], *notes])
