"""What `evaluate` and `compare` say, as tables: for a terminal, as CSV, as LaTeX and as a page. No study is needed.

A table has one line per condition; the CSV has one line per condition and measure, with every number of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from listenwell.data.tables import write_rows
from listenwell.errors import ConfigError
from listenwell.evaluate.comparison import PairedDifference
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.pairing import SideBySide
from listenwell.evaluate.predictions import Judgement
from listenwell.report.blocks import Block, Page, Paragraph, Table, make_page, make_table
from listenwell.report.wording import count_phrase, format_difference, format_metric, format_p
from listenwell.storage.atomic_files import write_text

SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Speech found",
    "specificity": "Others rejected",
    "roc_auc": "AUC",
    "cllr": "Cllr",
}
LATEX_SIGNS = re.compile(r"[&%$#_{}]")
CSV_COLUMNS = ("condition", "source", "measure", "value", "low", "high", "p", "p_adjusted", "clips", "groups", "method")


def judgement_table(judgement: Judgement) -> Table:
    """The measures of a judgement, and its verdicts where a target was given."""
    verdicts = {condition: verdict.outcome for condition, verdict in judgement.verdicts.items()}
    return metrics_table(judgement.metrics, f"Threshold {judgement.threshold:.6g}", verdicts)


def metrics_table(metrics: Mapping[str, Sequence[Metric]], caption: str, verdicts: Mapping[str, str] = {}) -> Table:
    """Conditions down, the main measures across; those of decisions alone where there are no scores."""
    first = next(iter(metrics.values()))
    names = [name for name in SHOWN if any(metric.name == name for metric in first)]
    rows = []
    for condition, measured in metrics.items():
        by_name = {metric.name: metric for metric in measured}
        verdict = [verdicts[condition]] if verdicts else []
        counts = count_phrase(measured[0].n, measured[0].n_groups, measured[0].n // first[0].n)
        rows.append((condition or "all", *(format_metric(by_name[name]) for name in names), *verdict, counts))
    heads = ["Condition", *(SHOWN[name] for name in names), *(["Target"] if verdicts else []), "Measured on"]
    notes = dict.fromkeys(note for of in metrics.values() for m in of for note in m.note.split("; ") if note)
    return make_table(f"{caption}, 95 % intervals over groups", heads, rows, "; ".join(notes))


def comparison_table(result: SideBySide) -> Table:
    """Conditions down; every source, and the first minus each other one, across."""
    names = list(result.left_out)
    rows = []
    for condition in dict.fromkeys(row.condition for row in result.rows):
        levels = [row.metrics[0] for row in result.rows if row.condition == condition]
        differences = [
            f"{each.outcome} {format_difference(each.result)}, p {format_p(each.p_adjusted)}"
            for each in result.comparisons
            if each.condition == condition
        ]
        rows.append((condition or "all", *map(format_metric, levels), *differences))
    heads = ["Condition", *names, *(f"{names[0]} minus {name}" for name in names[1:])]
    notes = dict.fromkeys(each.result.note for each in result.comparisons if each.result.note)
    caption = "Balanced accuracy, 95 % intervals over groups; p corrected for all differences together"
    return make_table(caption, heads, rows, "; ".join(notes))


def judgement_rows(judgement: Judgement) -> list[Sequence[str]]:
    """Every measure of every condition and part, as lines of CSV_COLUMNS."""
    rows = [_row(condition, "", m.name, m) for condition, metrics in judgement.metrics.items() for m in metrics]
    for column, parts in judgement.parts.items():
        rows += [_row("", f"{column} {part.part} ({part.label})", "right", part.metric) for part in parts]
    return rows


def comparison_rows(result: SideBySide) -> list[Sequence[str]]:
    """Every measure of every source and every difference, as lines of CSV_COLUMNS."""
    rows = [_row(each.condition, each.method, m.name, m) for each in result.rows for m in each.metrics]
    for each in result.comparisons:
        name = f"{each.method} minus {each.opponent}"
        rows.append(_row(each.condition, name, "balanced_accuracy", each.result, each.p_adjusted))
        if each.opponent in result.aucs[each.condition]:
            rows.append(_row(each.condition, name, "roc_auc", result.aucs[each.condition][each.opponent]))
    return rows


def _row(
    condition: str, source: str, measure: str, found: Metric | PairedDifference, p_adjusted: float | None = None
) -> Sequence[str]:
    if isinstance(found, Metric):
        value, p_value = found.value, ""
    else:
        value, p_value = found.difference, repr(found.p_value)
    corrected = "" if p_adjusted is None else repr(p_adjusted)
    numbers = (repr(value), repr(found.low), repr(found.high), p_value, corrected)
    return (condition, source, measure, *numbers, str(found.n), str(found.n_groups), found.method)


def comparison_page(result: SideBySide, settings: Sequence[str], warnings: Sequence[str]) -> Page:
    """The comparison as a web page, in the look of a study's report."""
    notices = [Paragraph(f"{warning}.", "Warning.", style="notice") for warning in warnings]
    differing = [Paragraph(setting) for setting in settings]
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("What was found", "answer", [*notices, comparison_table(result)]),
        ("Settings that differ", "settings", differing),
    ]
    return make_page("Comparison", " beside ".join(result.left_out), [], parts)


def write_table(path: Path, table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Write `rows` as CSV or `table` as LaTeX (booktabs), as the suffix of `path` says. Raises ConfigError."""
    if path.suffix == ".csv":
        write_rows(path, CSV_COLUMNS, rows)
    elif path.suffix == ".tex":
        write_text(path, to_latex(table))
    else:
        raise ConfigError(f"--table {path}: give a name that ends in .csv or .tex.")


def to_latex(table: Table) -> str:
    """The table in LaTeX, with booktabs' rules."""
    lines = [[column.text for column in table.columns], *([str(cell) for cell in row.cells] for row in table.rows)]
    head, *body = (" & ".join(map(_escape, line)) + r" \\" for line in lines)
    columns = "l" * len(table.columns)
    begin = [f"% {table.caption}", r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}"]
    return "\n".join([*begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])


def _escape(text: str) -> str:
    escaped = LATEX_SIGNS.sub(lambda sign: rf"\{sign[0]}", text.replace("\\", r"\textbackslash "))
    return escaped.replace("\N{MINUS SIGN}", "$-$").replace("<", "$<$").replace("~", r"\textasciitilde ")
