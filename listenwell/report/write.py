"""Write the report of a study: one web page that needs nothing else, the same in Markdown, a model card, table files.

Every number comes from `results` (what results.json holds), sounds from the folder errors/ of the run; the same of both
gives the same bytes. How names are escaped: `listenwell.report.rendering`.
"""

from pathlib import Path
from typing import Any

import yaml

from listenwell.report.answer import find_answers
from listenwell.report.arms import (
    history_table,
    ladder_tables,
    overfitting_sentence,
    search_tables,
    speaker_tables,
)
from listenwell.report.errors import heard_table, read_heard_errors
from listenwell.report.evidence import (
    allocation_table,
    background_table,
    finding_table,
    leak_statement,
    provenance_table,
    quarantine_table,
    seal_statement,
    seal_table,
    shared_groups,
    sheet_tables,
    threshold_table,
)
from listenwell.report.figures.curves import accuracy_curves, detection_curves
from listenwell.report.figures.groups import group_plots, reliability_diagrams
from listenwell.report.figures.learning import learning_curves
from listenwell.report.judging import (
    criteria_table,
    crossing_table,
    error_tables,
    holm_table,
    probability_table,
    transfer_table,
    trap_warnings,
)
from listenwell.report.model_card import MODEL_CARD, TEMPLATE, card_tables, front_matter, has_card
from listenwell.report.next_steps import find_next_steps
from listenwell.report.rendering import render_markdown, render_page
from listenwell.report.results import read_results
from listenwell.report.table_files import write_tables
from listenwell.report.tables import comparison_tables, full_tables, main_tables
from listenwell.storage.atomic_files import write_text

PAGE, MARKDOWN = "report.html", "report.md"


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write report.html, report.md, MODEL_CARD.md and tables/ into `folder`, the run's, each file atomically.

    Raises ListenwellError for incomplete results.
    """
    study = read_results(results)
    heard = read_heard_errors(study, folder)
    compared = [*ladder_tables(study), *search_tables(study.raw["search"])]
    values = {
        **study.raw,
        "answers": find_answers(study),
        "next_steps": find_next_steps(study),
        "main_tables": main_tables(study),
        "full_tables": full_tables(study),
        "comparison_tables": comparison_tables(study),
        "allocation_table": allocation_table(study),
        "background_table": background_table(study),
        "shared_groups": shared_groups(study),
        "threshold_table": threshold_table(study),
        "history_tables": [history_table(fit) for fit in study.raw["fits"]],
        "sentences": [overfitting_sentence(fit) for fit in study.raw["fits"]],
        "inner_tables": [*compared, *speaker_tables(study.raw["leave_one_speaker_out"])],
        "statements": [leak_statement(study), seal_statement(study)],
        "evidence_tables": [
            table
            for make in (criteria_table, transfer_table, crossing_table, probability_table)
            if (table := make(study)) is not None
        ],
        "holm_table": holm_table(study),
        "error_tables": error_tables(study),
        "heard_tables": [table for each in heard if (table := heard_table(each)) is not None],
        "traps": trap_warnings(study),
        "finding_table": finding_table(study),
        "seal_table": seal_table(study),
        "sheet_tables": sheet_tables(study),
        "quarantine_table": quarantine_table(study),
        "provenance_table": provenance_table(study),
        "config_yaml": yaml.safe_dump(dict(study.raw["config"]), sort_keys=False, allow_unicode=True),
    }
    on_page = {
        "curves": accuracy_curves(study),
        "detection_curves": detection_curves(study),
        "reliability_diagrams": reliability_diagrams(study),
        "group_plots": group_plots(study),
        "learning_curves": learning_curves(study),
        "heard_errors": heard,
    }
    write_text(folder / MARKDOWN, render_markdown("page.md.j2", values))
    write_tables(study, folder)
    if has_card(study):
        of_card = {"front_matter": front_matter(study), "card_tables": card_tables(study)}
        write_text(folder / MODEL_CARD, render_markdown(TEMPLATE, values | of_card))
    # last: where the page is, the rest is too
    write_text(folder / PAGE, render_page("page.html.j2", values | on_page))
