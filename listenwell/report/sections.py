"""What stands on a study's page and on its model card, by section: each sentence once, for HTML and Markdown.

Answers and advice: verdicts are read off the folds that leave a corpus out, or else the out-of-corpus test (the last
test set where there is none), advice off the latter; "better" or "worse" where the 95 % interval and the corrected p
value both say so, anything else "cannot tell", never "equal". An advice is given only where an interval or a count of
errors carries it; its thresholds are conventions of this module, named below.
"""

from collections.abc import Iterator, Sequence

import yaml

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.comparison import Outcome, PairedDifference, independent_difference
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import CALIBRATED, DEFAULT, FINE_TUNED, NOISY, ZERO_SHOT, Comparison
from listenwell.report import evidence, figures, tables
from listenwell.report.blocks import (
    Block,
    Card,
    Cards,
    Cell,
    Code,
    Figures,
    Fold,
    Page,
    Paragraph,
    Sounds,
    make_page,
    make_table,
)
from listenwell.report.results import OUT_OF_CORPUS, SEALED, Results, metric_of
from listenwell.report.wording import (
    condition_phrase,
    condition_title,
    count_phrase,
    format_difference,
    format_metric,
    format_number,
    format_p,
    method_title,
    plain_sentence,
    spaced,
    summarise,
    tone_of,
)

CONCENTRATED_SHARE = 0.5
"""More than this share of all errors in MOST_GROUPS groups means that the errors are about who or what was recorded."""
MOST_GROUPS, FEWEST_ERRORS = 3, 10
ABOUT_ANSWERS = (
    "Comparisons: on {}, {}; differences of balanced accuracy, the fine-tuned model calibrated, each opponent at the "
    "better of its two thresholds."
)
ABOUT_RESULTS = (
    "Balanced accuracy with its 95 % interval, default and calibrated on {}; the marked row is the delivered model."
)
CHOSEN_ON = {
    "dev": "dev",
    "folds": "clips of train and dev (calibration.source: folds), each scored by a fit that held it out (arms: on dev)",
}
ABOUT_COMPARISONS = (
    "The fine-tuned model at its calibrated threshold against each opponent at the threshold chosen on the same dev, "
    "and at its default, on the same clips. “Better” means that the whole 95 % interval [in brackets] lies above 0 and "
    "that the corrected p value is below 0.05. Intervals are uncorrected; p values come from paired permutations of "
    "whole groups; the primary comparisons, declared in evaluation.primary, are corrected by Holm, all others together "
    "by max-t."
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
    "logit(SPEECH answer) minus logit(NONSPEECH answer); the threshold, chosen on {}, is {}."
)


def chosen_on(results: Results) -> str:
    """Whose scores chose the thresholds."""
    return CHOSEN_ON[results.config.get("calibration", {}).get("source", "dev")]


def study_page(results: Results, sounds: Sequence[Sounds], threshold: Sequence[Block]) -> Page:
    """The page of a study; sounds: the errors to listen to; threshold: what moves it."""
    judged = results.judged_sets
    first_curves, other_curves = figures.accuracy_curves(results)
    criteria, *more_tables = evidence.judged_tables(results)
    groups, hardest = evidence.group_tables(results)
    headline = results.headline
    clean = metric_of(results.row(FINE_TUNED, CALIBRATED, headline, CLEAN))
    about = ABOUT_ANSWERS.format(results.title_of(headline), count_phrase(clean.n, clean.n_groups))
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("What was found", "answer", [Cards([*find_answers(results), _trust(results)]), Paragraph(about, style="note"),
                                      Figures(first_curves)]),
        ("What next", "next", find_next_steps(results)),
        ("Can it be trusted?", "evidence", _trust_blocks(results)),
        ("Every method", "results",
         [Paragraph(ABOUT_RESULTS.format(chosen_on(results))), *(tables.main_table(results, name) for name in judged)]),
        ("Move the threshold", "threshold", threshold),
        ("Errors to listen to", "errors", [Paragraph(ABOUT_ERRORS), *sounds]),
        ("Speakers and sounds", "groups", [
            *map(tables.speaker_table, results.leave_one_speaker_out),
            Paragraph(evidence.errors_sentence(results)),
            groups,
            Fold("The hardest group under each condition", [hardest]),
        ]),
        ("Comparisons", "comparisons", [
            Paragraph(ABOUT_COMPARISONS),
            *(tables.comparison_table(results, name, CALIBRATED) for name in judged),
            Fold("Against opponents at their default threshold",
                 [tables.comparison_table(results, name, DEFAULT) for name in judged]),
            Fold("Noise and duration on the other tests", [Figures(other_curves)]),
        ]),
        ("Criteria, transfer, probabilities", "judged", [
            criteria,
            Fold("Transfer of the threshold, fitted curves, probabilities",
                 more_tables),
        ]),
        ("Arms, search, training", "ladder", _arms_blocks(results)),
        ("Clips and provenance", "data", _data_blocks(results)),
    ]  # fmt: skip
    return make_page("listenwell report", results.name, _bylines(results), parts)


def model_card(results: Results) -> Page:
    """The model card: what the delivered adapter is, reaches, was trained on, and its limits."""
    counts, _ = evidence.allocation_tables(results)
    overfitting = [Paragraph(tables.overfitting_sentence(fit)) for fit in results.fits]
    parts: list[tuple[str, str, Sequence[Block]]] = [
        ("Use", "use", [Paragraph(WHAT_IT_DOES.format(results.model.name)),
                        Paragraph(HOW_TO_USE.format(chosen_on(results), results.thresholds[FINE_TUNED].value))]),
        ("The answer", "answer", [Cards(find_answers(results))]),
        ("What it reaches", "results", [tables.delivered_table(results, each.name) for each in results.test_sets]),
        ("Can it be trusted?", "evidence", [*evidence.statements(results), *_warnings(results)]),
        ("Limits, and what would help", "next", find_next_steps(results)),
        ("Training", "training", [*overfitting, counts, _config(results)]),
    ]  # fmt: skip
    return make_page("model card", results.name, [], parts)


def _bylines(results: Results) -> list[str]:
    """What was trained on what, and what it was tested on."""
    of_training = [each for each in results.allocation if each.part == "train"]
    trained = ", ".join(f"{each.n_clips} {each.label} clips ({each.n_groups} groups)" for each in of_training)
    tested = ", ".join(f"{each.title} ({count_phrase(each.n_clips, each.n_groups)})" for each in results.test_sets)
    lora = f"LoRA of rank {results.config['lora']['rank']}"
    return [f"{results.model.name}, {lora}, trained on {trained}; tested on {tested}."]


def _warnings(results: Results) -> list[Paragraph]:
    name = results.model.name
    other = f"This study used {name}, not the starter base; its numbers say nothing about the starter model's."
    notices = [] if results.model.is_starter_base else [Paragraph(other, "Another base model.", style="notice")]
    traps = [f"{spaced(name)}: {trap}." for name, traps in results.evidence.traps.items() for trap in traps]
    return notices + [Paragraph(warning, "Warning.", style="notice") for warning in [*results.warnings, *traps]]


def _trust(results: Results) -> Card:
    """Leak gate, seal and warnings in one card; what they say stands further down."""
    statements, n = evidence.statements(results), len(_warnings(results))
    is_alarming = any(statement.style for statement in statements)
    lines = [Cell(f"{n} warning{'s' * (n != 1)}" if n else "no warning")]
    tone = "bad" if is_alarming else "open" if n else "good"
    strong = " ".join(statement.strong for statement in statements)
    return Card("Can it be trusted?", strong, lines, tone, "evidence")


def _trust_blocks(results: Results) -> list[Block]:
    clips, backgrounds = evidence.allocation_tables(results)
    return [
        *evidence.statements(results),
        *_warnings(results),
        evidence.findings_table(results.leaks),
        clips,
        Fold("Background recordings", [backgrounds]),
    ]


def _arms_blocks(results: Results) -> list[Block]:
    return [
        *(Paragraph(fit.reason, f"{fit.name} failed.", style="notice") for fit in results.failed_fits),
        tables.ladder_table(results),
        *([tables.search_table(results.search)] if results.search else []),
        Fold("Learning curves", [Figures(figures.learning_curves(results), is_wide=True)]),
    ]


def _data_blocks(results: Results) -> list[Block]:
    provenance = make_table("What made these numbers", ("What", "Value"), evidence.provenance_of(results).items())
    return [
        evidence.threshold_table(results),
        Fold("Data sheets of the tests", evidence.sheet_tables(results)),
        Fold("Clips left out because they could not be read", [evidence.quarantine_table(results)]),
        Fold("What made these numbers", [provenance]),
        _config(results),
    ]


def _config(results: Results) -> Code:
    return Code("The whole config", yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True))


def find_answers(results: Results) -> list[Card]:
    """The answers a study gives: better than its base and than each classic detector, the cost of a foreign corpus, and
    who is recognised least often.

    To generalise is to be better than the base model on corpora that trained nothing.
    """
    opponents = [name for name, method in results.methods.items() if method.kind == "classic"]
    return [
        _answer(results, ZERO_SHOT, "Does it generalise: better than its base model?"),
        *(_answer(results, opponent, f"Is it better than {method_title(opponent)}?") for opponent in opponents),
        *_cost_of_a_foreign_corpus(results),
        *_hardest_group(results),
    ]


def _answer(results: Results, opponent: str, question: str) -> Card:
    name = results.headline
    comparisons = [
        results.comparison(opponent, name, condition, results.better_threshold(opponent, name, [condition]))
        for condition in results.headline_conditions(name)
    ]
    outcomes = {comparison.condition: comparison.outcome for comparison in comparisons}
    lines = [_describe(results, comparison) for comparison in comparisons]
    return Card(question, summarise(outcomes), lines, tone_of(outcomes.values()), "comparisons")


def _describe(results: Results, comparison: Comparison) -> Cell:
    result = comparison.result
    row = results.row(comparison.method, CALIBRATED, comparison.test_set, comparison.condition)
    found = "" if result.detectable is None else f", detectable {format_number(result.detectable)}"
    threshold = f"the opponent {comparison.opponent_threshold}"
    judged = f"{comparison.outcome}, {threshold}: corrected p {format_p(comparison.p_adjusted)}{found}"
    return Cell(
        f"{condition_phrase(comparison.condition)} {format_difference(result)}",
        f"{judged}; at {format_metric(metric_of(row))}",
    )


def _cost_of_a_foreign_corpus(results: Results) -> Iterator[Card]:
    """What leaving the whole corpus out costs, on the same clips; or else how far the two tests lie apart."""
    folds = results.folds_of("corpus")
    gap: PairedDifference | Metric
    if folds is not None and folds.gap is not None:
        gap, about = folds.gap, "against a corpus of which other speakers trained, on the same clips"
    elif {SEALED, OUT_OF_CORPUS} <= set(results.judged_sets):
        rows = [results.row(FINE_TUNED, CALIBRATED, name, CLEAN) for name in (SEALED, OUT_OF_CORPUS)]
        gap = independent_difference(*map(metric_of, rows))
        about = "sealed test minus out of corpus, clean; other speakers beside it"
    else:
        return
    outcome: Outcome = "worse" if gap.low > 0 else "better" if gap.high < 0 else "cannot tell"
    strong = {"worse": "It loses.", "better": "Nothing.", "cannot tell": "Cannot tell."}[outcome]
    line = Cell(f"{format_difference(gap)} of balanced accuracy", about)
    yield Card("What does a foreign corpus cost?", strong, [line], tone_of([outcome]), "groups")


def _hardest_group(results: Results) -> Iterator[Card]:
    """Who is right least often on clean clips: of all whom folds held out, or of the unseen test."""
    folds = results.folds_of("corpus") or results.folds_of("group")
    if folds is not None:
        speaker = min(folds.speakers, key=lambda speaker: (speaker.recall, speaker.speaker))
        named = [Cell(f"{speaker.speaker}: {speaker.recall:.0%}", f"of {speaker.n_speech} clips found")]
    else:
        worst = results.evidence.errors[results.unseen.name].worst.get(CLEAN, [])
        named = [
            Cell(f"{part.part}: {part.metric.value:.0%}", f"of {part.metric.n} {part.label} clips right")
            for part in sorted(worst, key=lambda part: part.label, reverse=True)
            if part.metric.value < 1
        ]
    if named:
        first, *others = named
        yield Card("Who is recognised least often?", first.text, [Cell(first.detail), *others], "open", "groups")


def find_next_steps(results: Results) -> list[Paragraph]:
    """What the rules advise, in the order in which it is worth doing."""
    rules = (_threshold_moves, _errors_sit_in_few_groups, _a_condition_costs_much, _not_decided)
    return [Paragraph(text, advice) for rule in rules for advice, text in rule(results)]


def _threshold_moves(results: Results) -> Iterator[tuple[str, str]]:
    """The threshold of dev lies off where the unseen test would have it."""
    transfer = results.evidence.transfer[results.unseen.name]
    if transfer.verdict.outcome == "not met":
        direction = "lower" if transfer.oracle < transfer.threshold else "higher"
        yield (
            "Calibrate on a few labelled clips of the kind you will use it on (listenwell calibrate).",
            f"{results.unseen.title}: {plain_sentence(transfer.verdict.sentence)}; a {direction} threshold would have "
            f"been right, and this one costs {format_metric(transfer.regret)} of balanced accuracy.",
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
        f"Listen to those that fail, then add {wanted} and material like theirs; more of the others will not help.",
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
