"""What `evaluate` and `compare` say, as tables: for a terminal, as CSV and as LaTeX. No study is needed.

A table has one line per condition; the CSV has one line per condition and measure, with every number of it.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from listenwell.data.tables import write_rows
from listenwell.errors import ConfigError
from listenwell.evaluate.comparison import PairedDifference
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.pairing import SideBySide
from listenwell.evaluate.predictions import Judgement
from listenwell.report.blocks import Table, make_column, make_table
from listenwell.report.wording import count_phrase, format_difference, format_metric, format_p
from listenwell.storage.atomic_files import write_text

SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Speech found",
    "specificity": "Others rejected",
    "roc_auc": "AUC",
    "cllr": "Cllr",
}
CSV_COLUMNS = ("condition", "source", "measure", "value", "low", "high", "p", "p_adjusted", "clips", "groups", "method")
TABLE_SUFFIXES = (".csv", ".tex")
LATEX_SIGNS = re.compile(r"[&%$#_{}]")


def judgement_table(judgement: Judgement) -> Table:
    """Conditions down, the main measures across; those of decisions alone where there are no scores."""
    first = next(iter(judgement.metrics.values()))
    names = [name for name in SHOWN if any(metric.name == name for metric in first)]
    rows = []
    for condition, metrics in judgement.metrics.items():
        by_name = {metric.name: metric for metric in metrics}
        verdict = [judgement.verdicts[condition].outcome] if judgement.verdicts else []
        counts = count_phrase(metrics[0].n, metrics[0].n_groups, metrics[0].n // first[0].n)
        rows.append((condition or "all", *(format_metric(by_name[name]) for name in names), *verdict, counts))
    heads = ["Condition", *(SHOWN[name] for name in names), *(["Target"] if judgement.verdicts else []), "Measured on"]
    notes = dict.fromkeys(note for metrics in judgement.metrics.values() for m in metrics for note in _notes(m.note))
    caption = f"Threshold {judgement.threshold:.6g}, 95 % intervals over groups"
    return make_table(caption, list(map(make_column, heads)), rows, "; ".join(notes))


def comparison_table(result: SideBySide) -> Table:
    """Conditions down; every source, and the first minus each other one, across."""
    names = list(dict.fromkeys(standing.name for standing in result.standings))
    opponents = list(dict.fromkeys(pair.opponent for pair in result.pairs))
    rows = []
    for condition in dict.fromkeys(standing.condition for standing in result.standings):
        levels = {each.name: each.metrics[0] for each in result.standings if each.condition == condition}
        pairs = {each.opponent: each for each in result.pairs if each.condition == condition}
        differences = [
            f"{pairs[name].outcome} {format_difference(pairs[name].difference)}, p {format_p(pairs[name].p_adjusted)}"
            for name in opponents
        ]
        rows.append((condition or "all", *(format_metric(levels[name]) for name in names), *differences))
    heads = ["Condition", *names, *(f"{names[0]} minus {name}" for name in opponents)]
    notes = dict.fromkeys(pair.difference.note for pair in result.pairs if pair.difference.note)
    caption = "Balanced accuracy, 95 % intervals over groups; p corrected for all differences together"
    return make_table(caption, list(map(make_column, heads)), rows, "; ".join(notes))


def _notes(note: str) -> Iterable[str]:
    return filter(None, note.split("; "))


def judgement_rows(judgement: Judgement) -> list[Sequence[str]]:
    """Every measure of every condition and part, as lines of CSV_COLUMNS."""
    rows = [_row(condition, "", m.name, m) for condition, metrics in judgement.metrics.items() for m in metrics]
    for column, parts in judgement.parts.items():
        rows += [_row("", f"{column} {part.part} ({part.label})", "right", part.metric) for part in parts]
    return rows


def comparison_rows(result: SideBySide) -> list[Sequence[str]]:
    """Every measure of every source and every difference, as lines of CSV_COLUMNS."""
    rows = [_row(each.condition, each.name, m.name, m) for each in result.standings for m in each.metrics]
    for pair in result.pairs:
        name = f"{pair.name} minus {pair.opponent}"
        rows.append(_row(pair.condition, name, "balanced_accuracy", pair.difference, pair.p_adjusted))
        if pair.auc is not None:
            rows.append(_row(pair.condition, name, "roc_auc", pair.auc))
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


def write_table(path: Path, table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Write `rows` as CSV or `table` as LaTeX (booktabs), as the suffix of `path` says. Raises ConfigError."""
    if path.suffix == ".csv":
        write_rows(path, CSV_COLUMNS, rows)
    elif path.suffix == ".tex":
        write_text(path, to_latex(table))
    else:
        raise ConfigError(f"--table {path}: give a name that ends in {' or '.join(TABLE_SUFFIXES)}.")


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
