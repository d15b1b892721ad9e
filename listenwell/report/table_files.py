"""The tables of a report as plain text: CSV for programs, LaTeX for papers, aligned columns for a terminal.

CSV holds the numbers unrounded, one measure a line. Names come from users' files, and a spreadsheet runs what begins
like a formula, so such a text gets an apostrophe before it (OWASP, CSV injection). LaTeX holds the tables as the page
prints them, for the package booktabs; every character that LaTeX reads is escaped. Loads neither Jinja nor
matplotlib.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from listenwell.report.blocks import Table
from listenwell.report.results import LeaveOneOut, Results, Search
from listenwell.report.tables import comparison_table, ladder_table, main_table, search_table, speaker_table
from listenwell.report.wording import DASH, MINUS, show_characters
from listenwell.storage.atomic_files import write_text

FOLDER, ROWS, COMPARISONS, LATEX = "tables", "rows.csv", "comparisons.csv", "tables.tex"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": r"{[}", "]": r"{]}", '"': r"\textquotedbl{}", "|": r"\textbar{}", MINUS: "$-$", "±": r"$\pm$",
    "Δ": r"$\Delta$", DASH: "--",
})  # fmt: skip


def write_tables(results: Results, folder: Path) -> None:
    """Write tables/rows.csv, tables/comparisons.csv and tables/tables.tex into the run's folder, each atomically."""
    write_text(folder / FOLDER / ROWS, _csv(_rows(results)))
    write_text(folder / FOLDER / COMPARISONS, _csv(_comparisons(results)))
    tables = [make(results, test_set) for make in (main_table, comparison_table) for test_set in results.test_sets]
    write_text(folder / FOLDER / LATEX, "\n".join(latex_table(table) for table in tables))


def _rows(results: Results) -> Iterable[Sequence[object]]:
    yield (
        "method", "threshold", "threshold_value", "test_set", "condition", "measure", "value", "low", "high", "clips",
        "groups", "interval",
    )  # fmt: skip
    for row in results.rows:
        for metric in row.metrics:
            yield (row.method, row.threshold, row.threshold_value, row.test_set, row.condition, metric.name,
                   metric.value, metric.low, metric.high, metric.n, metric.n_groups, metric.method)  # fmt: skip


def _comparisons(results: Results) -> Iterable[Sequence[object]]:
    yield ("method", "opponent", "opponent_threshold", "test_set", "condition", "difference", "low", "high", "p_value",
           "clips", "groups")  # fmt: skip
    for pair in results.comparisons:
        result = pair.result
        yield (pair.method, pair.opponent, pair.opponent_threshold, pair.test_set, pair.condition, result.difference,
               result.low, result.high, result.p_value, result.n, result.n_groups)  # fmt: skip


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([guard_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def guard_cell(value: object) -> object:
    """Return `value` so that no spreadsheet takes it for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    shown = " ".join(show_characters(value).split())
    return f"'{shown}" if value.startswith(_FORMULA_STARTS) or shown.startswith(_FORMULA_STARTS) else shown


def latex_table(table: Table) -> str:
    """Return a table environment with the caption, booktabs rules and the main row in bold."""
    heads = [escape_latex(str(column)) for column in table.columns]
    lines = [" & ".join(heads) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = [escape_latex(str(cell)) for cell in row.cells]
        lines.append(" & ".join(rf"\textbf{{{cell}}}" if row.is_main else cell for cell in cells) + r" \\")
    kinds = "".join("r" if column.is_number else "l" for column in table.columns)
    body = "\n".join(lines)
    return (
        f"\\begin{{table}}\n\\caption{{{escape_latex(table.caption)}}}\n\\begin{{tabular}}{{{kinds}}}\n\\toprule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def escape_latex(text: str) -> str:
    """Return `text` so that LaTeX prints it as it is, on one line."""
    return " ".join(show_characters(text).split()).translate(_LATEX)


def format_table(results: Results) -> str:
    """Return the main tables, the ladder and the search for a terminal."""
    tables = [*(main_table(results, test_set) for test_set in results.test_sets), ladder_table(results)]
    tables += [search_table(results.search)] if results.search else []
    return "\n\n".join(_align(table) for table in tables if table.rows)


def format_search(search: Search) -> str:
    """Return the ranked points of a search."""
    return _align(search_table(search))


def format_speakers(records: Sequence[LeaveOneOut]) -> str:
    """Return every arm's speakers, the hardest first."""
    return "\n\n".join(_align(speaker_table(record)) for record in records)


def _align(table: Table) -> str:
    lines = [[column.title for column in table.columns], [column.detail for column in table.columns]]
    lines += [[str(cell) for cell in row.cells] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = [rule, table.note] if table.note else []
    return "\n".join([table.caption, rule, *padded[:2], rule, *padded[2:], *notes])
