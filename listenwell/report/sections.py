"""What stands on a study's page and on its model card, by section: each sentence once, for HTML and Markdown."""

from collections.abc import Sequence

import yaml

from listenwell.evaluate.methods import FINE_TUNED
from listenwell.report import evidence, figures, tables
from listenwell.report.blocks import Block, Code, Figures, Page, Paragraph, Sounds, answer_blocks, folded, make_page
from listenwell.report.conclusions import find_answers, find_next_steps
from listenwell.report.results import Results
from listenwell.report.wording import spaced

ABOUT_ANSWERS = (
    "Differences and levels are of balanced accuracy at the calibrated threshold, with their 95 % intervals."
)
ABOUT_RESULTS = (
    "Balanced accuracy is the mean of the share of speech clips called speech and of other clips not called so. "
    "“default” is the threshold a method is published with (0 for the language model), “calibrated” the one chosen on "
    "the dev clips. Intervals count groups (speakers, sound sources), not only clips."
)
ABOUT_COMPARISONS = (
    "The fine-tuned model at its calibrated threshold against each opponent at whichever of its two thresholds does "
    "better on that very test, on the same clips. “Better” means that the whole 95 % interval [in brackets] lies above "
    "0, “worse” below it; p values are of a paired permutation of whole groups; “default” and “calibrated” say which "
    "threshold the opponent had."
)
ABOUT_ERRORS = (
    "Of the fine-tuned model at its calibrated threshold, on clean clips. 'listenwell trace CLIP --run RUN' follows "
    "one clip through every value."
)
WHAT_IT_DOES = (
    "Decides SPEECH or NONSPEECH on short, noisy clips: a low-rank adapter of the audio language model {}, trained "
    "with listenwell."
)
HOW_TO_USE = (
    "'listenwell detect' with what 'listenwell export' makes of the run, or the adapter in plain PEFT. The score is "
    "logit(SPEECH answer) minus logit(NONSPEECH answer); the threshold, chosen on dev, is {}."
)


def study_page(results: Results, sounds: Sequence[Sounds]) -> Page:
    """The page of a study; sounds: the errors to listen to."""
    test_sets = results.test_sets
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("The answer", "answer", answer_blocks(find_answers(results), ABOUT_ANSWERS)),
        ("Can it be trusted?", "evidence", evidence.statements(results)),
        ("What next", "next", find_next_steps(results)),
        (
            "Results",
            "results",
            [*(tables.main_table(results, test_set) for test_set in test_sets), Paragraph(ABOUT_RESULTS, style="note")],
        ),
        (
            "Criteria, transfer, probabilities",
            "judged",
            [
                evidence.criteria_table(results),
                evidence.transfer_table(results),
                evidence.crossing_table(results),
                evidence.probability_table(results),
                Figures(figures.reliability_diagrams(results)),
            ],
        ),
        ("Noise and duration", "curves", [Figures(figures.accuracy_curves(results))]),
        ("Every threshold", "detection", [Figures(figures.detection_curves(results), is_wide=True)]),
        (
            "Comparisons",
            "comparisons",
            [
                Paragraph(ABOUT_COMPARISONS),
                *(tables.comparison_table(results, test_set) for test_set in test_sets),
                folded(evidence.holm_table(results)),
            ],
        ),
        ("Arms, search, speakers", "ladder", _arms_blocks(results)),
        (
            "Errors",
            "errors",
            [Paragraph(ABOUT_ERRORS), Figures(figures.group_plots(results), is_wide=True),
             *(folded(evidence.error_table(*errors)) for errors in results.evidence.errors.items()), *sounds],
        ),
        ("Every condition", "conditions", [folded(tables.full_table(results, test_set)) for test_set in test_sets]),
        ("Training", "training", [Figures(figures.learning_curves(results), is_wide=True)]),
        ("Who was where", "allocation", _allocation_blocks(results)),
        ("Thresholds", "thresholds", [evidence.threshold_table(results)]),
        ("Data sheets of the tests", "sheets", evidence.sheet_tables(results)),
        ("Leak gate and seal", "gate", [evidence.finding_table(results.leaks), evidence.seal_table(results.seal)]),
        ("Clips left out", "quarantine", [evidence.quarantine_table(results)]),
        ("Provenance", "provenance", [evidence.provenance_table(results), _config(results)]),
    ]  # fmt: skip
    about = [f"{test_set.title}: {test_set.n_clips} clips, {test_set.n_groups} groups" for test_set in test_sets]
    bylines = [" · ".join([results.model.name, *about])]
    return make_page("listenwell report", results.name, bylines, _notices(results), parts)


def model_card(results: Results) -> Page:
    """The model card: what the delivered adapter is, reaches, was trained on, and its limits."""
    counts, _ = evidence.allocation_tables(results)
    overfitting = [Paragraph(tables.overfitting_sentence(fit)) for fit in results.fits]
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("Use", "use", [Paragraph(HOW_TO_USE.format(results.thresholds[FINE_TUNED].value))]),
        ("The answer", "answer", answer_blocks(find_answers(results), ABOUT_ANSWERS)),
        ("What it reaches", "results", [tables.delivered_table(results, test_set) for test_set in results.test_sets]),
        ("Can it be trusted?", "evidence", [*evidence.statements(results), *_notices(results)]),
        ("Limits, and what would help", "next", find_next_steps(results)),
        ("Training", "training", [*overfitting, counts, _config(results)]),
    ]
    return make_page("model card", results.name, [], [Paragraph(WHAT_IT_DOES.format(results.model.name))], parts)


def _notices(results: Results) -> list[Paragraph]:
    name = results.model.name
    other = f"This study used {name}, not the starter base; its numbers say nothing about the starter model's."
    notices = [] if results.model.is_starter_base else [Paragraph(other, "Another base model.", style="notice")]
    traps = [f"{spaced(name)}: {trap}." for name, traps in results.evidence.traps.items() for trap in traps]
    return notices + [Paragraph(warning, "Warning.", style="notice") for warning in [*results.warnings, *traps]]


def _arms_blocks(results: Results) -> list[Block]:
    return [
        *(Paragraph(fit.reason, f"{fit.name} failed.", style="notice") for fit in results.failed_fits),
        tables.ladder_table(results),
        *([tables.search_table(results.search)] if results.search else []),
        *map(tables.speaker_table, results.leave_one_speaker_out),
    ]


def _allocation_blocks(results: Results) -> list[Block]:
    about = Paragraph("A group is a speaker or a sound source; the leak gate says whether one stands in two splits.")
    counts, names = evidence.allocation_tables(results)
    return [about, counts, folded(names), evidence.background_table(results)]


def _config(results: Results) -> Code:
    return Code("The whole config", yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True))
