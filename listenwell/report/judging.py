"""Tables of the evidence beyond the main table: criteria, transfer, curves, probabilities, errors, warnings."""

from typing import Any

from listenwell.report.evidence import plain_table
from listenwell.report.results import StudyResults, evidence_of
from listenwell.report.tables import Table, numbers, texts
from listenwell.report.wording import (
    condition_title,
    format_difference,
    format_interval,
    format_number,
    format_p,
    format_score,
    method_title,
    part_title,
    plain_sentence,
)

SHOWN_GROUPS = 15


def criteria_table(results: StudyResults) -> Table | None:
    """Every success criterion with its verdict, or None for results without evidence."""
    rows = [
        (
            each["criterion"],
            part_title(each["test_set"]) if each["test_set"] else "study pool",
            plain_sentence(each["sentence"]),
        )
        for each in evidence_of(results, "criteria", [])
    ]
    return plain_table("Success criteria, judged by their intervals", texts("Criterion", "On", "Verdict"), rows)


def transfer_table(results: StudyResults) -> Table | None:
    """How the dev threshold does on each test: shift against the test's own best, and what that costs."""
    rows = [
        (part_title(name), *(_signed(found[what]) for what in ("shift", "regret")), found["verdict"]["outcome"])
        for name, found in evidence_of(results, "transfer", {}).items()
    ]
    heads = texts("Test set") + numbers("Shift (logits)", "Regret (balanced accuracy)") + texts("Within ±0.5")
    return plain_table("Transfer of the threshold that dev chose", heads, rows)


def crossing_table(results: StudyResults) -> Table | None:
    """Where the fitted curves of balanced accuracy and recall pass their targets."""
    rows = [
        (
            part_title(name),
            "duration" if curve["over"] == "duration_ms" else "SNR",
            curve["measure"].replace("_", " "),
            "; ".join(plain_sentence(point["sentence"]) for point in curve["points"]),
        )
        for name, curves in evidence_of(results, "curves", {}).items()
        for curve in curves
    ]
    return plain_table("Where the fitted curves pass their targets", texts("Test set", "Over", "Measure", "At"), rows)


def probability_table(results: StudyResults) -> Table | None:
    """How good the probabilities are that Platt's map of dev gives on each test's clean clips."""
    found = evidence_of(results, "probability", {"test_sets": {}})["test_sets"]
    rows = [
        (
            part_title(name),
            *(f"{format_number(m['value'])} {format_interval(m['low'], m['high'])}" for m in own["metrics"]),
        )
        for name, own in found.items()
    ]
    heads = texts("Test set") + numbers("Brier score", "Log-loss (nats)", "Calibration error")
    return plain_table("Probabilities by Platt's map of dev, clean clips", heads, rows)


def holm_table(results: StudyResults) -> Table | None:
    """P values of all comparisons, corrected as one family."""
    rows = [
        (
            method_title(each["opponent"]),
            part_title(each["test_set"]),
            condition_title(each["condition"]),
            format_p(each["p_value"]),
            format_p(each["p_holm"]),
        )
        for each in evidence_of(results, "holm", [])
    ]
    heads = texts("Opponent", "Test set", "Condition") + numbers("p", "p, Holm")
    return plain_table(f"All {len(rows)} comparisons as one family (Holm's correction)", heads, rows)


def error_tables(results: StudyResults) -> list[Table]:
    """Clean errors of the fine-tuned model: by group, the worst clips, and against the other methods."""
    tables: list[Table | None] = []
    for name, found in evidence_of(results, "errors", {}).items():
        title = part_title(name)
        wrong = [each for each in found["groups"] if each["n_wrong"]]
        shown = f", the first {SHOWN_GROUPS}" if len(wrong) > SHOWN_GROUPS else ""
        tables += [
            plain_table(
                f"{title}: groups with errors ({found['n_wrong']} of {found['n']} clips, {len(wrong)} groups){shown}",
                texts("Group", "Label") + numbers("Wrong", "Clips"),
                [(each["group"], each["label"], str(each["n_wrong"]), str(each["n"])) for each in wrong[:SHOWN_GROUPS]],
            ),
            plain_table(
                f"{title}: the worst errors",
                texts("Clip", "Group", "Label") + numbers("Score", "Beyond the threshold"),
                [
                    (
                        each["clip_id"],
                        each["group"],
                        each["label"],
                        format_score(each["score"]),
                        format_score(each["beyond"]),
                    )
                    for each in found["worst"]
                ],
            ),
            plain_table(
                f"{title}: who is right, clip by clip, each at its dev threshold",
                texts("Method") + numbers("Both", "Only fine-tuned", "Only this", "Neither"),
                [
                    (
                        method_title(each["method"]),
                        *(str(each[k]) for k in ("both_right", "only_ours_right", "only_theirs_right", "both_wrong")),
                    )
                    for each in found["agreement"]
                ],
            ),
        ]
    return [table for table in tables if table is not None]


def trap_warnings(results: StudyResults) -> list[str]:
    """What the tables themselves warn of, with the test set it is about."""
    found = evidence_of(results, "traps", {})
    return [f"{part_title(name)}: {warning}." for name, warnings in found.items() for warning in warnings]


def _signed(metric: dict[str, Any]) -> str:
    low, high = (format_difference(metric[end]) for end in ("low", "high"))
    return f"{format_difference(metric['value'])} [{low}, {high}]"
