"""What stands on a study's page and on its model card, by section: each sentence once, for HTML and Markdown."""

from collections.abc import Sequence

import yaml

from listenwell.report.blocks import Code, Figures, Page, Paragraph, Section, Sounds, folded, make_section
from listenwell.report.conclusions import find_answers, find_next_steps
from listenwell.report.evidence import (
    allocation_tables,
    background_table,
    criteria_table,
    crossing_table,
    error_tables,
    finding_table,
    holm_table,
    probability_table,
    provenance_table,
    quarantine_table,
    seal_table,
    shared_groups,
    sheet_tables,
    statements,
    threshold_table,
    transfer_table,
)
from listenwell.report.figures import (
    accuracy_curves,
    detection_curves,
    group_plots,
    learning_curves,
    reliability_diagrams,
)
from listenwell.report.results import FINE_TUNED, Results
from listenwell.report.tables import (
    comparison_table,
    delivered_table,
    full_table,
    history_table,
    ladder_table,
    main_table,
    overfitting_sentence,
    search_table,
    speaker_table,
)
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
    sections = [
        answer_section(find_answers(results), ABOUT_ANSWERS),
        make_section("Can it be trusted?", "evidence", statements(results)),
        make_section("What next", "next", find_next_steps(results)),
        make_section("Results", "results", [*(main_table(results, each) for each in results.test_sets),
                                            Paragraph(ABOUT_RESULTS, style="note")]),
        make_section(
            "Criteria, transfer, probabilities",
            "judged",
            [
                criteria_table(results), transfer_table(results), crossing_table(results), probability_table(results),
                Figures(reliability_diagrams(results)),
            ],
        ),
        make_section("Noise and duration", "curves", [Figures(accuracy_curves(results))]),
        make_section("Every threshold", "detection", [Figures(detection_curves(results), is_wide=True)]),
        make_section(
            "Comparisons",
            "comparisons",
            [
                Paragraph(ABOUT_COMPARISONS),
                *(comparison_table(results, each) for each in results.test_sets),
                folded(holm_table(results)),
            ],
        ),
        _arms_section(results),
        make_section(
            "Errors",
            "errors",
            [
                Paragraph(ABOUT_ERRORS),
                Figures(group_plots(results), is_wide=True),
                *(folded(table) for name, errors in results.evidence.errors.items()
                  for table in error_tables(spaced(name), errors)),
                *sounds,
            ],
        ),
        make_section("Every condition", "conditions", [folded(full_table(results, t)) for t in results.test_sets]),
        make_section(
            "Training",
            "training",
            [Figures(learning_curves(results), is_wide=True), *(folded(history_table(fit)) for fit in results.fits)],
        ),
        _allocation_section(results),
        make_section("Thresholds", "thresholds", [threshold_table(results)]),
        make_section(
            "Data sheets of the tests", "sheets", [table for each in results.test_sets for table in sheet_tables(each)]
        ),
        make_section("Leak gate and seal", "gate", [finding_table(results.leaks), seal_table(results.seal)]),
        make_section("Clips left out", "quarantine", [quarantine_table(results)]),
        make_section("Provenance", "provenance", [provenance_table(results), _config(results)]),
    ]  # fmt: skip
    bylines = [" · ".join([results.model.name, *(f"{each.title}: {each.n_clips} clips, {each.n_groups} groups"
                                                  for each in results.test_sets)])]  # fmt: skip
    return Page("listenwell report", results.name, bylines, _notices(results), [s for s in sections if s.blocks])


def model_card(results: Results) -> Page:
    """The model card: what the delivered adapter is, reaches, was trained on, and its limits."""
    allocation, _ = allocation_tables(results)
    threshold = results.thresholds[FINE_TUNED].value
    sections = [
        make_section("Use", "use", [Paragraph(HOW_TO_USE.format(threshold))]),
        answer_section(find_answers(results), ABOUT_ANSWERS),
        make_section("What it reaches", "results", [delivered_table(results, each) for each in results.test_sets]),
        make_section("Can it be trusted?", "evidence", [*statements(results), *_notices(results)]),
        make_section("Limits, and what would help", "next", find_next_steps(results)),
        make_section(
            "Training",
            "training",
            [*(Paragraph(overfitting_sentence(fit)) for fit in results.fits), allocation, _config(results)],
        ),
    ]
    about = Paragraph(WHAT_IT_DOES.format(results.model.name))
    return Page("model card", results.name, (), [about], [section for section in sections if section.blocks])


def answer_section(answers: Sequence[Paragraph], note: str) -> Section:
    """The answers in large print, what each rests on below them."""
    leads = [Paragraph("", answer.strong, answer.question, "lead") for answer in answers]
    evidence = [Paragraph(answer.text) for answer in answers]
    return make_section("The answer", "answer", [*leads, *evidence, Paragraph(note, style="note")])


def _notices(results: Results) -> list[Paragraph]:
    notices = []
    if not results.model.is_starter_base:
        text = (
            f"This study used {results.model.name}, not the starter base; its numbers say nothing about the starter "
            "model's."
        )
        notices.append(Paragraph(text, "Another base model.", style="notice"))
    traps = [f"{spaced(name)}: {trap}." for name, found in results.evidence.traps.items() for trap in found]
    return notices + [Paragraph(warning, "Warning.", style="notice") for warning in [*results.warnings, *traps]]


def _arms_section(results: Results) -> Section:
    blocks = [Paragraph(fit.reason, f"{fit.name} failed.", style="notice") for fit in results.failed_fits]
    tables = [
        ladder_table(results),
        *([search_table(results.search)] if results.search else []),
        *(speaker_table(record) for record in results.leave_one_speaker_out),
    ]
    return make_section("Arms, search, speakers", "ladder", [*blocks, *tables])


def _allocation_section(results: Results) -> Section:
    if shared := shared_groups(results):
        text = "; ".join(f"{group} ({', '.join(splits)})" for group, splits in shared.items())
        about = Paragraph(f"{text}.", "Groups in more than one split:", style="notice")
    else:
        about = Paragraph("A group is a speaker or a sound source. No group stands in two splits.")
    counts, names = allocation_tables(results)
    return make_section("Who was where", "allocation", [about, counts, folded(names), background_table(results)])


def _config(results: Results) -> Code:
    return Code("The whole config", yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True))
