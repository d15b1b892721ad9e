"""The main tables of a study as plain text for a terminal; draws nothing, so it loads neither Jinja nor matplotlib."""

from typing import Any

from listenwell.report.results import read_results
from listenwell.report.tables import Table, main_tables


def format_table(results: dict[str, Any]) -> str:
    """Return the main tables as plain text for a terminal; `results` is what results.json holds.

    Raises ListenwellError when something is missing.
    """
    return "\n\n".join(_format_plain(table) for table in main_tables(read_results(results)))


def _format_plain(table: Table) -> str:
    lines = [tuple(column.title for column in table.columns), tuple(column.detail for column in table.columns)]
    lines += [tuple(str(cell) for cell in row.cells) for row in table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.caption, rule, *padded[:2], rule, *padded[2:]])
