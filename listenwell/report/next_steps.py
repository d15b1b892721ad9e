"""What to do next: rules over the results of a study, each advice with the numbers it rests on.

A rule speaks only where an interval or a count of errors carries it; a study about which no rule has anything to say
gets no advice. The thresholds of the rules are conventions of this module, named below.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from listenwell.evaluate.methods import CALIBRATED, NOISY
from listenwell.report.results import (
    CLEAN,
    FINE_TUNED,
    StudyResults,
    balanced_accuracy_of,
    evidence_of,
    metric_of,
    unseen_test_set,
)
from listenwell.report.wording import (
    condition_title,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    method_title,
    plain_sentence,
)

CONCENTRATED_SHARE = 0.5
"""More than this share of all errors in MOST_GROUPS groups means that the errors are about who or what was recorded."""
MOST_GROUPS, FEWEST_ERRORS = 3, 10
LOPSIDED = 3.0
"""One kind of error this many times as frequent as the other, with intervals apart, means a lopsided decision."""
NEXT_TO_NOTHING = 0.01
"""A gain whose whole interval lies below this is not worth the recordings."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """An advice in a few words, and the numbers that carry it."""

    advice: str
    evidence: str


def find_next_steps(results: StudyResults) -> list[NextStep]:
    """Return what the rules advise, in the order in which it is worth doing."""
    return [step for rule in RULES for step in rule(results)]


def _threshold_moves(results: StudyResults) -> Iterator[NextStep]:
    """The threshold of dev lies off where the unseen test would have it."""
    transfer = evidence_of(results, "transfer", {})
    test_set = unseen_test_set(results)
    if test_set not in transfer or transfer[test_set]["verdict"]["outcome"] != "not met":
        return
    found = transfer[test_set]
    regret = found["regret"]
    yield NextStep(
        "Calibrate on a few labelled clips of the kind you will use it on.",
        f"{results.title_of(test_set)}: {plain_sentence(found['verdict']['sentence'])}; it costs "
        f"{format_number(regret['value'])} {format_interval(regret['low'], regret['high'])} of balanced accuracy.",
    )


def _errors_sit_in_few_groups(results: StudyResults) -> Iterator[NextStep]:
    """A few speakers or sources make most of the errors."""
    test_set = unseen_test_set(results)
    by_test_set = evidence_of(results, "errors", {})
    if test_set not in by_test_set or by_test_set[test_set]["n_wrong"] < FEWEST_ERRORS:
        return
    errors = by_test_set[test_set]
    worst = sorted(errors["groups"], key=lambda group: (-group["n_wrong"], group["group"]))[:MOST_GROUPS]
    if sum(group["n_wrong"] for group in worst) <= CONCENTRATED_SHARE * errors["n_wrong"]:
        return
    named = ", ".join(f"{group['group']} ({group['n_wrong']} of {group['n']})" for group in worst)
    kinds = sorted({group["label"] for group in worst})
    wanted = "speakers" if kinds == ["SPEECH"] else "sounds" if kinds == ["NONSPEECH"] else "speakers and sounds"
    yield NextStep(
        f"Add {wanted} like those that fail; more clips of the others will not help.",
        f"{results.title_of(test_set)}, clean: most of the {errors['n_wrong']} errors come from {named}.",
    )


def _decisions_are_lopsided(results: StudyResults) -> Iterator[NextStep]:
    """Misses far outnumber false alarms, or the other way round."""
    test_set = unseen_test_set(results)
    row = results.find_row(FINE_TUNED, CALIBRATED, test_set, NOISY) or results.find_row(
        FINE_TUNED, CALIBRATED, test_set, CLEAN
    )
    if row is None:
        return
    recall, specificity = metric_of(row, "recall"), metric_of(row, "specificity")
    misses, alarms = 1 - recall.value, 1 - specificity.value
    if misses > LOPSIDED * alarms and recall.high < specificity.low:
        advice = "If missed speech costs you more than false alarms, calibrate by cost or for a target recall."
    elif alarms > LOPSIDED * misses and specificity.high < recall.low:
        advice = "If false alarms cost you more than missed speech, calibrate by cost or for a target false-alarm rate."
    else:
        return
    yield NextStep(
        advice,
        f"{results.title_of(test_set)}, {condition_title(row.condition)}: speech found {format_number(recall.value)} "
        f"{format_interval(recall.low, recall.high)}, other sounds rejected {format_number(specificity.value)} "
        f"{format_interval(specificity.low, specificity.high)}.",
    )


def _a_condition_costs_much(results: StudyResults) -> Iterator[NextStep]:
    """Under some condition the whole interval lies below the clean value: train for that condition."""
    test_set = unseen_test_set(results)
    clean = results.find_row(FINE_TUNED, CALIBRATED, test_set, CLEAN)
    if clean is None:
        return
    whole = balanced_accuracy_of(clean)
    hurt = [
        (balanced_accuracy_of(row), condition)
        for condition in results.conditions_of(test_set)
        if condition != NOISY and (row := results.find_row(FINE_TUNED, CALIBRATED, test_set, condition)) is not None
    ]
    below = sorted((metric.value, metric, condition) for metric, condition in hurt if metric.high < whole.value)
    if below:
        _, metric, condition = below[0]
        yield NextStep(
            f"Train harder for {condition_title(condition)}, if your recordings are like that: a larger share of such "
            "augmentation, or clips recorded so.",
            f"{results.title_of(test_set)}: {format_number(metric.value)} "
            f"{format_interval(metric.low, metric.high)} there, {format_number(whole.value)} on clean clips.",
        )


def _not_decided(results: StudyResults) -> Iterator[NextStep]:
    """A criterion that the data cannot decide, and how much would."""
    for found in evidence_of(results, "criteria", []):
        if found["outcome"].startswith("cannot tell") and found["groups_needed"] is not None:
            yield NextStep(
                f"To decide '{plain_sentence(found['criterion'])}': test with {found['groups_needed']} groups.",
                f"{found['test_set'].replace('_', ' ')}: {plain_sentence(found['sentence'])}.",
            )


def _a_classic_detector_is_better(results: StudyResults) -> Iterator[NextStep]:
    test_set = unseen_test_set(results)
    for name in results.methods:
        found = results.find_comparison(name, test_set, CLEAN)
        if results.raw["methods"][name]["kind"] == "classic" and found is not None and found.result.high < 0:
            yield NextStep(
                f"On clean clips use {method_title(name)}: it is better and costs less.",
                f"{results.title_of(test_set)}: difference {format_difference(found.result.difference)} "
                f"{format_difference_interval(found.result.low, found.result.high)}.",
            )


def _more_epochs_might_help(results: StudyResults) -> Iterator[NextStep]:
    for fit in results.raw["fits"][:1]:
        last = fit["history"][-1]["epoch"]
        if fit["best_epoch"] == last and last > 1:
            yield NextStep(
                "Train for more epochs.", f"The delivered fit was best after its last epoch, {last}, by dev loss."
            )


def _arms_that_brought_nothing(results: StudyResults) -> Iterator[NextStep]:
    test_set = unseen_test_set(results)
    for record in results.raw["ladder"]:
        against = record["against"]
        if (record["test_set"], record["condition"]) != (test_set, NOISY) or against is None:
            continue
        if against["low"] <= 0 <= against["high"]:
            yield NextStep(
                f"Do not rely on the arm '{record['arm']}': its gain cannot be told from none.",
                f"{results.title_of(test_set)}, noisy: {format_difference(against['difference'])} "
                f"{format_difference_interval(against['low'], against['high'])} against the first arm.",
            )


RULES: tuple[Callable[[StudyResults], Iterator[NextStep]], ...] = (
    _threshold_moves,
    _errors_sit_in_few_groups,
    _a_condition_costs_much,
    _decisions_are_lopsided,
    _more_epochs_might_help,
    _a_classic_detector_is_better,
    _arms_that_brought_nothing,
    _not_decided,
)
