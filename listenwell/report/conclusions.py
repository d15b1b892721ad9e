"""What a study says in words: does it generalise, is it better than the classic detectors, what to do next.

Every verdict is read off a 95 % interval on the out-of-corpus test (the last test set where there is none): low > 0 is
"better", high < 0 "worse", anything else "cannot tell", never "equal". An advice is given only where an interval or a
count of errors carries it; its thresholds are conventions of this module, named below.
"""

from collections.abc import Callable, Iterator, Sequence

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.methods import CALIBRATED, NOISY, ZERO_SHOT, Comparison
from listenwell.report.blocks import Paragraph
from listenwell.report.results import Results, distinct, metric_of
from listenwell.report.wording import (
    Difference,
    condition_phrase,
    condition_title,
    count_phrase,
    format_difference,
    format_metric,
    format_number,
    method_title,
    plain_sentence,
    spaced,
    verdict_of,
)

VERDICTS = {"better": "Yes.", "worse": "No, it is worse.", "cannot tell": "Cannot tell from this many clips."}
CONCENTRATED_SHARE = 0.5
"""More than this share of all errors in MOST_GROUPS groups means that the errors are about who or what was recorded."""
MOST_GROUPS, FEWEST_ERRORS = 3, 10


def find_answers(results: Results) -> list[Paragraph]:
    """The answers a study gives: whether it generalises, then one per classic detector it was compared with."""
    opponents = [name for name, method in results.methods.items() if method.kind == "classic"]
    questions = {name: f"Is it better than {method_title(name)}?" for name in opponents}
    return [
        _answer(results, name, question) for name, question in ({ZERO_SHOT: "Does it generalise?"} | questions).items()
    ]


def _answer(results: Results, opponent: str, question: str) -> Paragraph:
    test_set = results.unseen
    comparisons = [results.comparison(opponent, test_set.name, c) for c in results.headline_conditions(test_set.name)]
    details = "; ".join(_describe(results, comparison) for comparison in comparisons)
    text = f"{test_set.title}, against {method_title(opponent)}: {details}."
    return Paragraph(text, summarise([comparison.result for comparison in comparisons]), question)


def _describe(results: Results, comparison: Comparison) -> str:
    result = comparison.result
    row = results.row(comparison.method, CALIBRATED, comparison.test_set, comparison.condition)
    return (
        f"{verdict_of(result)} {condition_phrase(comparison.condition)}, {format_difference(result)}, at "
        f"{format_metric(metric_of(row))} ({count_phrase(result.n, result.n_groups)})"
    )


def summarise(differences: Sequence[Difference]) -> str:
    """In a few words what differences under one or several conditions say together."""
    verdicts = distinct(verdict_of(difference) for difference in differences)
    return VERDICTS[verdicts[0]] if len(verdicts) == 1 else "Not under every condition."


def find_next_steps(results: Results) -> list[Paragraph]:
    """What the rules advise, in the order in which it is worth doing."""
    return [Paragraph(text, advice) for rule in RULES for advice, text in rule(results)]


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


RULES: tuple[Callable[[Results], Iterator[tuple[str, str]]], ...] = (
    _threshold_moves,
    _errors_sit_in_few_groups,
    _a_condition_costs_much,
    _not_decided,
)
