"""The tables of a report as files: CSV for programs, LaTeX for papers, both from what results.json holds.

CSV holds the numbers unrounded, one measure a line. Names come from users' files, and a spreadsheet runs what begins
like a formula, so such a text gets an apostrophe before it (OWASP, CSV injection). LaTeX holds the tables as the page
prints them, for the package booktabs; every sign that LaTeX reads is escaped.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from listenwell.report.results import StudyResults
from listenwell.report.tables import Table, comparison_tables, main_tables
from listenwell.report.wording import DASH, MINUS, show_signs
from listenwell.storage.atomic_files import write_text

FOLDER, ROWS, COMPARISONS, LATEX = "tables", "rows.csv", "comparisons.csv", "tables.tex"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": r"{[}", "]": r"{]}", '"': r"\textquotedbl{}", "|": r"\textbar{}", MINUS: "$-$", "±": r"$\pm$",
    "Δ": r"$\Delta$", DASH: "--",
}  # fmt: skip


def write_tables(study: StudyResults, folder: Path) -> None:
    """Write tables/rows.csv, tables/comparisons.csv and tables/tables.tex into the run's folder, each atomically."""
    write_text(folder / FOLDER / ROWS, _csv(_rows(study)))
    write_text(folder / FOLDER / COMPARISONS, _csv(_comparisons(study)))
    tables = [*main_tables(study), *comparison_tables(study)]
    write_text(folder / FOLDER / LATEX, "\n".join(latex_table(table) for table in tables))


def _rows(study: StudyResults) -> Iterable[Sequence[object]]:
    yield (
        "method", "threshold", "threshold_value", "test_set", "condition", "measure", "value", "low", "high", "clips",
        "groups", "interval",
    )  # fmt: skip
    for row in study.rows:
        for metric in row.metrics:
            yield (row.method, row.threshold, row.threshold_value, row.test_set, row.condition, metric.name,
                   metric.value, metric.low, metric.high, metric.n, metric.n_groups, metric.method)  # fmt: skip


def _comparisons(study: StudyResults) -> Iterable[Sequence[object]]:
    yield ("method", "opponent", "opponent_threshold", "test_set", "condition", "difference", "low", "high", "p_value",
           "clips", "groups")  # fmt: skip
    for each in study.comparisons:
        found = each.result
        yield (each.method, each.opponent, each.opponent_threshold, each.test_set, each.condition, found.difference,
               found.low, found.high, found.p_value, found.n, found.n_groups)  # fmt: skip


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([guard_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def guard_cell(value: object) -> object:
    """Return `value` so that no spreadsheet takes it for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    shown = " ".join(show_signs(value).split())
    return f"'{shown}" if value.startswith(_FORMULA_STARTS) or shown.startswith(_FORMULA_STARTS) else shown


def latex_table(table: Table) -> str:
    """Return a table environment with the caption, booktabs rules and the main row in bold."""
    heads = [escape_latex(" ".join(filter(None, (column.title, column.detail)))) for column in table.columns]
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
    return "".join(_LATEX[sign] if sign in _LATEX else sign for sign in " ".join(show_signs(text).split()))
