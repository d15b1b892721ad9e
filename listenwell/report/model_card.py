"""A study's model card: the model-index that Hugging Face's hub reads, and one table a test set.

Fields: https://huggingface.co/docs/hub/model-cards; Mitchell et al. 2019, Model Cards for Model Reporting.
"""

from typing import Any

import yaml
from markupsafe import Markup

from listenwell.evaluate.methods import CALIBRATED, Row
from listenwell.report.results import FINE_TUNED, StudyResults, balanced_accuracy_of
from listenwell.report.tables import MEASURES, Cell, Table, TableRow, measure_cell, numbers, texts
from listenwell.report.wording import condition_title, count_phrase

MODEL_CARD, TEMPLATE = "MODEL_CARD.md", "model_card.md.j2"


def has_card(study: StudyResults) -> bool:
    """Whether the study delivered a calibrated model, which a card can describe."""
    return bool(study.raw["fits"]) and FINE_TUNED in study.raw["thresholds"]


def front_matter(study: StudyResults) -> Markup:
    """Return the YAML between the card's two lines of dashes; names are data of YAML, whatever they hold."""
    results = [
        {
            "task": {"type": "audio-classification", "name": "speech detection"},
            "dataset": {"name": study.title_of(row.test_set), "type": row.test_set, "split": row.condition},
            "metrics": [
                {"type": m.name, "value": m.value, "name": f"{MEASURES[m.name]}, 95 % interval {[m.low, m.high]}"}
                for m in row.metrics
                if m.name in MEASURES
            ],
        }
        for test_set in study.test_sets
        for row in _delivered_rows(study, test_set)
    ]
    front: dict[str, Any] = {
        "library_name": "peft",
        "base_model": study.raw["model"]["name"],
        "pipeline_tag": "audio-classification",
        "tags": ["speech-detection", "lora", "listenwell"],
        "model-index": [{"name": study.raw["name"], "results": results}],
    }
    return Markup(yaml.safe_dump(front, sort_keys=False, allow_unicode=True))


def card_tables(study: StudyResults) -> list[Table]:
    """One table per test set: what the delivered model reaches under every condition."""
    return [_card_table(study, test_set) for test_set in study.test_sets]


def _card_table(study: StudyResults, test_set: str) -> Table:
    rows = []
    for row in _delivered_rows(study, test_set):
        counted = balanced_accuracy_of(row)
        name = Cell(condition_title(row.condition), count_phrase(counted.n, counted.n_groups))
        rows.append(TableRow((name, *(measure_cell(row, measure) for measure in MEASURES))))
    caption = f"{study.title_of(test_set)}: the delivered model, with 95 % intervals"
    return Table(caption, texts("Condition") + numbers(*MEASURES.values()), tuple(rows))


def _delivered_rows(study: StudyResults, test_set: str) -> list[Row]:
    key = (FINE_TUNED, CALIBRATED, test_set)
    return [row for row in study.rows if (row.method, row.threshold, row.test_set) == key]
