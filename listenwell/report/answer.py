"""The first paragraph: does it generalise, and is it better than the classic detectors?

Every verdict is read off a 95 % interval on the out-of-corpus test (the last test set where there is none): low > 0 is
"better", high < 0 "worse", anything else "cannot tell", never "equal". Where the study did not compare with its base
model, generalising is judged against chance (balanced accuracy 0.5).
"""

from dataclasses import dataclass

from listenwell.evaluate.methods import CALIBRATED, DEFAULT, NOISY, Comparison
from listenwell.report.results import (
    CHANCE,
    CLEAN,
    FINE_TUNED,
    ZERO_SHOT,
    StudyResults,
    balanced_accuracy_of,
    distinct,
    unseen_test_set,
)
from listenwell.report.wording import (
    Verdict,
    condition_phrase,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    method_title,
    verdict_of,
)

GENERALISES = "Does it generalise?"


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, its verdict in a few words, and the numbers behind it."""

    question: str
    verdict: str
    evidence: str


def find_answers(results: StudyResults) -> list[Answer]:
    """Return the answers a study gives: whether it generalises, then one per classic detector it was compared with."""
    test_set = unseen_test_set(results)
    opponents = [name for name in results.methods if results.raw["methods"][name]["kind"] == "classic"]
    answers = [_against(results, test_set, ZERO_SHOT, GENERALISES) or _against_chance(results, test_set)]
    answers += [_against(results, test_set, name, f"Is it better than {method_title(name)}?") for name in opponents]
    return [answer for answer in answers if answer is not None]


def _against(results: StudyResults, test_set: str, opponent: str, question: str) -> Answer | None:
    found = [
        comparison
        for condition in _headline_conditions(results, test_set)
        if (comparison := results.find_comparison(opponent, test_set, condition)) is not None
    ]
    if not found:
        return None
    verdicts = [verdict_of(c.result.low, c.result.high) for c in found]
    evidence = "; ".join(_describe(results, c, verdict) for c, verdict in zip(found, verdicts, strict=True))
    place = f"{results.title_of(test_set)}, against {method_title(opponent)}: {evidence}."
    return Answer(question, summarise_verdicts(verdicts), place)


def _describe(results: StudyResults, comparison: Comparison, verdict: Verdict) -> str:
    result = comparison.result
    row = results.find_row(comparison.method, CALIBRATED, comparison.test_set, comparison.condition)
    reached = ""
    if row is not None:
        metric = balanced_accuracy_of(row)
        reached = f", at {format_number(metric.value)} {format_interval(metric.low, metric.high)}"
    difference = f"{format_difference(result.difference)} {format_difference_interval(result.low, result.high)}"
    counts = count_phrase(result.n, result.n_groups)
    return f"{verdict} {condition_phrase(comparison.condition)}, {difference}{reached} ({counts})"


def _against_chance(results: StudyResults, test_set: str) -> Answer | None:
    rows = [
        row
        for condition in _headline_conditions(results, test_set)
        for row in [
            results.find_row(FINE_TUNED, CALIBRATED, test_set, condition)
            or results.find_row(FINE_TUNED, DEFAULT, test_set, condition)
        ]
        if row is not None
    ]
    if not rows:
        return None
    metrics = [balanced_accuracy_of(row) for row in rows]
    verdicts = [verdict_of(metric.low - CHANCE, metric.high - CHANCE) for metric in metrics]
    evidence = "; ".join(
        f"{format_number(metric.value)} {format_interval(metric.low, metric.high)} {condition_phrase(row.condition)} "
        f"({count_phrase(metric.n, metric.n_groups)})"
        for row, metric in zip(rows, metrics, strict=True)
    )
    place = f"{results.title_of(test_set)}, against chance (0.5): {evidence}."
    return Answer(GENERALISES, summarise_verdicts(verdicts), place)


def _headline_conditions(results: StudyResults, test_set: str) -> list[str]:
    """Clean and noisy where they were judged, otherwise the first condition."""
    conditions = results.conditions_of(test_set)
    return [condition for condition in (CLEAN, NOISY) if condition in conditions] or conditions[:1]


def summarise_verdicts(verdicts: list[Verdict]) -> str:
    """Return in a few words what the verdicts under one or several conditions say together."""
    kinds = distinct(verdicts)
    if len(kinds) > 1:
        return "Not under every condition."
    return {"better": "Yes.", "worse": "No, it is worse.", "cannot tell": "Cannot tell from this many clips."}[kinds[0]]
