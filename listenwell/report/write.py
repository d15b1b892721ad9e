"""Write the report of a study: one web page that needs nothing else, and the same in Markdown.

Both are made from `results` (what results.json holds) alone; the same results give the same bytes. Names come from
users' files, so everything printed is escaped: by Jinja's autoescape on the page, by `escape_markdown` in Markdown.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from listenwell.atomic_files import write_text
from listenwell.report.answer import find_answers
from listenwell.report.appendix import (
    allocation_table,
    background_table,
    history_table,
    provenance_table,
    quarantine_table,
    shared_groups,
    threshold_table,
)
from listenwell.report.evidence import finding_table, leak_statement, seal_statement, seal_table, sheet_tables
from listenwell.report.figures import accuracy_curves, learning_curves
from listenwell.report.judging import (
    criteria_table,
    crossing_table,
    error_tables,
    holm_table,
    probability_table,
    transfer_table,
    trap_warnings,
)
from listenwell.report.ladder import ladder_tables, search_tables, speaker_tables
from listenwell.report.results import read_results
from listenwell.report.tables import Table, comparison_tables, full_tables, main_tables
from listenwell.report.wording import MINUS, part_title

# An interval that no link can follow keeps its brackets; every other sign that Markdown reads is escaped.
_INTERVAL = rf"\[[+{MINUS}]?\d\.\d{{3}}, [+{MINUS}]?\d\.\d{{3}}\](?![(\[:])"
_MARKDOWN_SIGN = re.compile(rf"({_INTERVAL})|([\\`*_\[\]|~])")

PAGE, MARKDOWN = "report.html", "report.md"


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write report.html and report.md into `folder`, each atomically. Raises ListenwellError for incomplete results."""
    study = read_results(results)
    speakers = speaker_tables(study.raw["leave_one_speaker_out"])
    values = {
        **study.raw,
        "answers": find_answers(study),
        "main_tables": main_tables(study),
        "full_tables": full_tables(study),
        "comparison_tables": comparison_tables(study),
        "allocation_table": allocation_table(study),
        "background_table": background_table(study),
        "shared_groups": shared_groups(study),
        "threshold_table": threshold_table(study),
        "history_tables": [history_table(fit) for fit in study.raw["fits"]],
        "inner_tables": [*ladder_tables(study), *search_tables(study.raw["search"]), *speakers],
        "statements": [leak_statement(study), seal_statement(study)],
        "evidence_tables": [
            table
            for make in (criteria_table, transfer_table, crossing_table, probability_table)
            if (table := make(study)) is not None
        ],
        "holm_table": holm_table(study),
        "error_tables": error_tables(study),
        "traps": trap_warnings(study),
        "finding_table": finding_table(study),
        "seal_table": seal_table(study),
        "sheet_tables": sheet_tables(study),
        "quarantine_table": quarantine_table(study),
        "provenance_table": provenance_table(study),
        "config_yaml": yaml.safe_dump(dict(study.raw["config"]), sort_keys=False, allow_unicode=True),
    }
    curves = {"curves": accuracy_curves(study), "learning_curves": learning_curves(study)}
    page = _environment(autoescape=True).get_template("page.html.j2").render(values | curves)
    markdown = _environment(finalize=escape_markdown).get_template("page.md.j2").render(values)
    write_text(folder / PAGE, page)
    write_text(folder / MARKDOWN, markdown)


def _environment(autoescape: bool = False, finalize: Callable[[Any], Any] | None = None) -> Environment:
    environment = Environment(
        loader=PackageLoader("listenwell.report", "."),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"markdown_table": markdown_table, "indent_code": indent_code, "part_title": part_title}
    return environment


def escape_markdown(value: Any) -> str:
    """Return `value` so that Markdown prints it as it is, on one line; Markup passes through."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SIGN.sub(lambda found: found[1] or f"\\{found[2]}", text)


def markdown_table(table: Table) -> Markup:
    """Return a table in GitHub's Markdown; the main row is bold."""
    heads = [escape_markdown(" ".join(filter(None, (column.title, column.detail)))) for column in table.columns]
    lines = [heads, ["---:" if column.is_number else "---" for column in table.columns]]
    for row in table.rows:
        texts = [escape_markdown(cell) for cell in row.cells]
        lines.append([f"**{text}**" if row.is_main and text else text for text in texts])
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def indent_code(text: str) -> Markup:
    """Return `text` as an indented code block: no content of it can end the block."""
    return Markup("\n".join(f"    {line}" for line in text.splitlines()))
