"""What stands on a study's page and on its model card, by section: each sentence once, for HTML and Markdown.

Answers and advice: verdicts are read off the folds that leave a corpus out, or else the out-of-corpus test (the last
test set where there is none), advice off the latter; "better" or "worse" where the 95 % interval and the corrected p
value both say so, anything else "cannot tell", never "equal". An advice is given only where an interval or a count of
errors carries it; its thresholds are conventions of this module, named below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import yaml

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.comparison import independent_difference
from listenwell.evaluate.methods import CALIBRATED, FINE_TUNED, NOISY, ZERO_SHOT, Comparison
from listenwell.report import evidence, figures, tables
from listenwell.report.blocks import (
    Block,
    Code,
    Figures,
    Page,
    Paragraph,
    Sounds,
    answer_blocks,
    folded,
    make_page,
    make_table,
)
from listenwell.report.results import OUT_OF_CORPUS, SEALED, Results, metric_of
from listenwell.report.wording import (
    condition_phrase,
    condition_title,
    count_phrase,
    detectable_phrase,
    format_difference,
    format_difference_interval,
    format_metric,
    format_number,
    format_signed,
    method_title,
    plain_sentence,
    spaced,
    summarise,
)

CONCENTRATED_SHARE = 0.5
"""More than this share of all errors in MOST_GROUPS groups means that the errors are about who or what was recorded."""
MOST_GROUPS, FEWEST_ERRORS = 3, 10
ABOUT_ANSWERS = (
    "Differences and levels are of balanced accuracy at the calibrated threshold, with their 95 % intervals."
)
ABOUT_RESULTS = (
    "Balanced accuracy is the mean of the share of speech clips called speech and of other clips not called so. "
    "“default” is the threshold a method is published with (0 for the language model), “calibrated” the one chosen on "
    "the dev clips. Intervals count groups (speakers, sound sources), not only clips."
)
ABOUT_COMPARISONS = (
    "The fine-tuned model at its calibrated threshold against each opponent at the threshold chosen on the same dev, "
    "and at its default, on the same clips. “Better” means that the whole 95 % interval [in brackets] lies above 0 and "
    "that the corrected p value is below 0.05. p values are of exchanges of the two methods within whole groups; the "
    "primary comparisons, declared in evaluation.primary, are corrected by Holm among themselves, all others together."
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
    judged = results.judged_sets
    values = evidence.provenance_of(results).items()
    provenance = make_table("What made these numbers", ("What", "Value"), values)
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("The answer", "answer", answer_blocks(find_answers(results), ABOUT_ANSWERS)),
        ("Can it be trusted?", "evidence", evidence.statements(results)),
        ("What next", "next", find_next_steps(results)),
        (
            "Results",
            "results",
            [*(tables.main_table(results, name) for name in judged), Paragraph(ABOUT_RESULTS, style="note")],
        ),
        (
            "Criteria, transfer, probabilities",
            "judged",
            [
                *evidence.judged_tables(results),
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
                *(tables.comparison_table(results, name) for name in judged),
            ],
        ),
        ("Arms, search, speakers", "ladder", _arms_blocks(results)),
        (
            "Errors",
            "errors",
            [Paragraph(ABOUT_ERRORS), Figures(figures.group_plots(results), is_wide=True),
             *(folded(evidence.error_table(*errors)) for errors in results.evidence.errors.items()),
             *(folded(evidence.worst_table(*errors)) for errors in results.evidence.errors.items()), *sounds],
        ),
        ("Every condition", "conditions", [folded(tables.full_table(results, name)) for name in judged]),
        ("Training", "training", [Figures(figures.learning_curves(results), is_wide=True)]),
        ("Who was where", "allocation", _allocation_blocks(results)),
        ("Thresholds", "thresholds", [evidence.threshold_table(results)]),
        ("Data sheets of the tests", "sheets", evidence.sheet_tables(results)),
        ("Leak gate and seal", "gate", evidence.gate_tables(results.leaks, results.seal)),
        ("Clips left out", "quarantine", [evidence.quarantine_table(results)]),
        ("Provenance", "provenance", [provenance, _config(results)]),
    ]  # fmt: skip
    about = [
        f"{test_set.title}: {test_set.n_clips} clips, {test_set.n_groups} groups" for test_set in results.test_sets
    ]
    bylines = [" · ".join([results.model.name, *about])]
    return make_page("listenwell report", results.name, bylines, _notices(results), parts)


def model_card(results: Results) -> Page:
    """The model card: what the delivered adapter is, reaches, was trained on, and its limits."""
    counts, *_ = evidence.allocation_tables(results)
    overfitting = [Paragraph(tables.overfitting_sentence(fit)) for fit in results.fits]
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("Use", "use", [Paragraph(HOW_TO_USE.format(results.thresholds[FINE_TUNED].value))]),
        ("The answer", "answer", answer_blocks(find_answers(results), ABOUT_ANSWERS)),
        ("What it reaches", "results", [tables.delivered_table(results, each.name) for each in results.test_sets]),
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
        folded(tables.variation_table(results)),
        *([tables.search_table(results.search)] if results.search else []),
        *map(tables.speaker_table, results.leave_one_speaker_out),
    ]


def _allocation_blocks(results: Results) -> list[Block]:
    about = Paragraph("A group is a speaker or a sound source; the leak gate says whether one stands in two splits.")
    counts, names, backgrounds = evidence.allocation_tables(results)
    return [about, counts, folded(names), backgrounds]


def _config(results: Results) -> Code:
    return Code("The whole config", yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True))


def find_answers(results: Results) -> list[Paragraph]:
    """The answers a study gives, then one per classic detector it was compared with.

    To generalise is to be better than the base model on corpora that trained nothing; the answer says beside it what
    such a corpus costs, and which speaker is recognised least often.
    """
    opponents = [name for name, method in results.methods.items() if method.kind == "classic"]
    generalises = _answer(results, ZERO_SHOT, "Does it generalise?")
    about = [generalises.text, *_cost_of_a_foreign_corpus(results), *_hardest_group(results)]
    return [
        replace(generalises, text=" ".join(about)),
        *(_answer(results, opponent, f"Is it better than {method_title(opponent)}?") for opponent in opponents),
    ]


def _answer(results: Results, opponent: str, question: str) -> Paragraph:
    name = results.headline
    comparisons = [results.comparison(opponent, name, c) for c in results.headline_conditions(name)]
    details = "; ".join(_describe(results, comparison) for comparison in comparisons)
    text = f"{results.title_of(name)}, against {method_title(opponent)}: {details}."
    return Paragraph(text, summarise([comparison.outcome for comparison in comparisons]), question)


def _describe(results: Results, comparison: Comparison) -> str:
    result = comparison.result
    versions = results.n_versions(comparison.test_set, comparison.condition)
    row = results.row(comparison.method, CALIBRATED, comparison.test_set, comparison.condition)
    return (
        f"{comparison.outcome} {condition_phrase(comparison.condition)}, {format_difference(result)}, at "
        f"{format_metric(metric_of(row))} ({count_phrase(result.n, result.n_groups, versions)}"
        f"{detectable_phrase(result)})"
    )


def _cost_of_a_foreign_corpus(results: Results) -> Iterator[str]:
    """What leaving the whole corpus out costs, on the same clips; or else how far the two tests lie apart."""
    folds = results.folds_of("corpus")
    if folds is not None and folds.gap is not None:
        yield f"A foreign corpus costs {format_difference(folds.gap)}, against one of which other speakers trained."
    elif {SEALED, OUT_OF_CORPUS} <= set(results.judged_sets):
        rows = [results.row(FINE_TUNED, CALIBRATED, name, CLEAN) for name in (SEALED, OUT_OF_CORPUS)]
        gap = independent_difference(*map(metric_of, rows))
        yield (
            f"A foreign corpus costs {format_signed(gap.value)} {format_difference_interval(gap)}, other speakers "
            "beside it (sealed test minus out of corpus, clean)."
        )


def _hardest_group(results: Results) -> Iterator[str]:
    """Who is right least often on clean clips."""
    folds = results.folds_of("corpus")
    if folds is not None:
        speaker = min(folds.speakers, key=lambda speaker: (speaker.recall, speaker.speaker))
        yield f"Hardest speaker: {speaker.speaker}, {speaker.recall:.0%} of {speaker.n_speech} clips found."
        return
    worst = results.evidence.errors[results.unseen.name].worst.get(CLEAN, [])
    named = [f"{part.part} ({part.metric.value:.0%} of {part.metric.n} clips right)" for part in worst]
    if named:
        yield f"Hardest groups: {', '.join(named)}."


def find_next_steps(results: Results) -> list[Paragraph]:
    """What the rules advise, in the order in which it is worth doing."""
    rules = (_threshold_moves, _errors_sit_in_few_groups, _a_condition_costs_much, _not_decided)
    return [Paragraph(text, advice) for rule in rules for advice, text in rule(results)]


def _threshold_moves(results: Results) -> Iterator[tuple[str, str]]:
    """The threshold of dev lies off where the unseen test would have it."""
    transfer = results.evidence.transfer[results.unseen.name]
    if transfer.verdict.outcome == "not met":
        yield (
            "Calibrate on a few labelled clips of the kind you will use it on.",
            f"{results.unseen.title}: {plain_sentence(transfer.verdict.sentence)}; it costs "
            f"{format_metric(transfer.regret)} of balanced accuracy.",
        )


def _errors_sit_in_few_groups(results: Results) -> Iterator[tuple[str, str]]:
    """A few speakers or sources make most of the errors."""
    errors = results.evidence.errors[results.unseen.name]
    worst = sorted(errors.groups, key=lambda group: (-group.n_wrong, group.group))[:MOST_GROUPS]
    n_worst = sum(group.n_wrong for group in worst)
    if errors.n_wrong < FEWEST_ERRORS or n_worst <= CONCENTRATED_SHARE * errors.n_wrong:
        return
    named = ", ".join(f"{group.group} ({group.n_wrong} of {group.n})" for group in worst)
    labels = {group.label for group in worst}
    wanted = "speakers" if labels == {"SPEECH"} else "sounds" if labels == {"NONSPEECH"} else "speakers and sounds"
    yield (
        f"Add {wanted} like those that fail; more clips of the others will not help.",
        f"{results.unseen.title}, clean: most of the {errors.n_wrong} errors come from {named}.",
    )


def _a_condition_costs_much(results: Results) -> Iterator[tuple[str, str]]:
    """Under some condition the whole interval lies below the clean value: train for that condition."""
    measured = {row.condition: metric_of(row) for row in results.delivered_rows(results.unseen.name)}
    clean = measured[CLEAN].value
    below = [
        (metric.value, condition)
        for condition, metric in measured.items()
        if condition != NOISY and metric.high < clean
    ]
    if below:
        _, condition = min(below)
        yield (
            f"Train harder for {condition_title(condition)}, if your recordings are like that: a larger share of such "
            "augmentation, or clips recorded so.",
            f"{results.unseen.title}: {format_metric(measured[condition])} there, {format_number(clean)} on clean "
            "clips.",
        )


def _not_decided(results: Results) -> Iterator[tuple[str, str]]:
    """A criterion that the data cannot decide, and how much would."""
    for criterion in results.evidence.criteria:
        if criterion.outcome == "cannot tell" and criterion.groups_needed is not None:
            yield (
                f"To decide '{plain_sentence(criterion.criterion)}': test with {criterion.groups_needed} groups.",
                f"{spaced(criterion.test_set) or 'study pool'}: {plain_sentence(criterion.sentence)}.",
            )
