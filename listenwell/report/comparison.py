"""Two finished studies side by side as one page: settings, balanced accuracy on the same clips, thresholds, groups.

The page calls them A and B, in the order given; every difference is A minus B. Knows nothing of run folders or scores:
`listenwell.tasks.compare` reads those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from listenwell.augment.conditions import CLEAN
from listenwell.config import CHANGES_NOTHING
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.methods import NOISY
from listenwell.evaluate.pairing import GroupCount, Pair, SideBySide
from listenwell.report.blocks import Block, Card, Cards, Cell, Page, Paragraph, Table, make_page, make_row, make_table
from listenwell.report.evidence import describe_threshold, flatten, provenance_of, statements
from listenwell.report.results import Results
from listenwell.report.wording import (
    DASH,
    condition_phrase,
    condition_title,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_number,
    format_p,
    format_signed,
    method_title,
    summarise,
    tone_of,
)

LETTERS = ("A", "B")
MOST_GROUPS = 15
ABOUT_ANSWERS = (
    "{} of both, each at the threshold calibrated on its own dev clips; differences of balanced accuracy are A minus "
    "B, with 95 % intervals."
)
ABOUT_RESULTS = (
    "Both on the same clips. “Better” means that the whole interval of the difference lies above 0 and that p is below "
    "0.05; p values are of exchanges of whole groups, corrected over all differences of this page together."
)


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A finished study, the folder it was given by, and the threshold its method decides at."""

    folder: str
    results: Results
    threshold: Threshold


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs by one of their methods, by test set; warnings come before anything else."""

    runs: tuple[ComparedRun, ComparedRun]
    method: str
    test_sets: Mapping[str, SideBySide]
    warnings: Sequence[str]


def comparison_page(comparison: RunComparison) -> Page:
    """The page of two runs, under the same rules as a study's report."""
    runs = comparison.runs
    results = [run.results for run in runs]
    titled = [(results[0].title_of(name), compared) for name, compared in comparison.test_sets.items()]
    trust = [
        replace(statement, strong=f"{letter}: {statement.strong}")
        for letter, study in zip(LETTERS, results, strict=True)
        for statement in statements(study)
    ]
    about = ABOUT_ANSWERS.format(method_title(comparison.method))
    notices = [Paragraph(f"{warning}.", "Warning.", style="notice") for warning in comparison.warnings]
    settings = _differing("Settings that differ", [_settings(study) for study in results])
    provenance = _beside("What made them", [provenance_of(study) for study in results])
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("What was found", "answer", [*notices, Cards(answer_comparison(comparison)), Paragraph(about, style="note")]),
        ("Can they be trusted?", "evidence", trust),
        ("Settings", "settings", [settings if settings.rows else Paragraph("Both studies had the same settings.")]),
        (
            "Results",
            "results",
            [*(_accuracy_table(*pair) for pair in titled), Paragraph(ABOUT_RESULTS, style="note")],
        ),
        ("Thresholds", "thresholds", [_beside("Thresholds of both", [describe_threshold(r.threshold) for r in runs])]),
        ("Groups", "groups", [block for pair in titled for block in _group_blocks(*pair)]),
        ("Provenance", "provenance", [provenance, Paragraph("Lines in bold differ.", style="note")]),
    ]
    bylines = [
        f"{letter} · {run.results.name} · {run.results.model.name} · {run.folder}"
        for letter, run in zip(LETTERS, runs, strict=True)
    ]
    title = f"{results[0].name} and {results[1].name} on the same clips"
    return make_page("listenwell comparison", title, bylines, parts)


def answer_comparison(comparison: RunComparison) -> list[Card]:
    """For each test set, whether A is better than B there."""
    results = comparison.runs[0].results
    return [_answer(results.title_of(name), compared.pairs) for name, compared in comparison.test_sets.items()]


def _answer(title: str, pairs: Sequence[Pair]) -> Card:
    shown = [pair for pair in pairs if pair.condition in (CLEAN, NOISY)]
    outcomes = {pair.condition: pair.outcome for pair in shown}
    lines = [
        Cell(
            f"{condition_phrase(pair.condition)} {format_difference(pair.difference)}",
            f"{pair.outcome}: corrected p {format_p(pair.p_adjusted)}; "
            f"{count_phrase(pair.difference.n, pair.difference.n_groups)}",
        )
        for pair in shown
    ]
    return Card(f"{title}: is A better than B?", summarise(outcomes), lines, tone_of(outcomes.values()), "results")


def _settings(results: Results) -> dict[str, str]:
    """Dotted setting -> its value as JSON, without those that change no result."""
    config = {key: value for key, value in results.config.items() if key not in CHANGES_NOTHING}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in flatten(config, ".")}


def _beside(caption: str, values: Sequence[Mapping[str, str]]) -> Table:
    """One line per name, A's and B's value; lines that differ are main ones."""
    one, other = values
    lines = [(name, one.get(name, DASH), other.get(name, DASH)) for name in {**one, **other}]
    rows = [make_row(line, line[1] != line[2]) for line in lines]
    return make_table(caption, ("What", *LETTERS), rows)


def _differing(caption: str, values: Sequence[Mapping[str, str]]) -> Table:
    """The lines that differ alone, none of them a main one."""
    table = _beside(caption, values)
    return replace(table, rows=[replace(row, is_main=False) for row in table.rows if row.is_main])


def _accuracy_table(title: str, compared: SideBySide) -> Table:
    """Conditions down; A, B and A minus B across."""
    rows = []
    for pair in compared.pairs:
        difference = pair.difference
        metrics = [standing.metrics[0] for standing in compared.standings if standing.condition == pair.condition]
        detail = f"{format_difference_interval(difference)}, p {format_p(pair.p_adjusted)}"
        rows.append(
            (
                Cell(condition_title(pair.condition), count_phrase(difference.n, difference.n_groups)),
                *metrics,
                Cell(f"{pair.outcome} {format_signed(difference.difference)}", detail),
            )
        )
    return make_table(f"{title}: balanced accuracy, with 95 % intervals", ("Condition", "#A", "#B", "#A minus B"), rows)


def _group_blocks(title: str, compared: SideBySide) -> list[Block]:
    """The groups that A decides better and those it decides worse, those with the largest change first."""
    changed = sorted(compared.groups, key=lambda group: (-abs(_gain(group)), group.label, group.group))
    better, worse = ([g for g in changed if sign * _gain(g) > 0] for sign in (1, -1))
    n_alike = len(changed) - len(better) - len(worse)
    alike = f"{title}: {n_alike} of {len(changed)} groups have as many clips right in A as in B."
    return [
        _group_table(f"{title}: groups that A decides better", better),
        _group_table(f"{title}: groups that A decides worse", worse),
        Paragraph(f"On clean clips, each run at its calibrated threshold. {alike}", style="note"),
    ]


def _gain(group: GroupCount) -> int:
    """Clips that A has right more than B."""
    return group.n_right[0] - group.n_right[1]


def _group_table(caption: str, groups: Sequence[GroupCount]) -> Table:
    shown = f" ({len(groups)})" + (f", the first {MOST_GROUPS}" if len(groups) > MOST_GROUPS else "")
    rows = [
        (group.group, group.label, group.n, *group.n_right, format_number(_gain(group), "+d"))
        for group in groups[:MOST_GROUPS]
    ]
    heads = ("Group", "Label", "#Clips", "#Right in A", "#Right in B", "#A minus B")
    return make_table(caption + shown, heads, rows)
