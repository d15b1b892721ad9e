"""What speaks for the numbers: the leak gate's verdict, the seal of the tests, the data sheets.

A study without a leak report is "not checked", one without a seal "unsealed": silence is never read as good news.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from listenwell.report.appendix import plain_table
from listenwell.report.results import StudyResults
from listenwell.report.tables import Table, numbers, texts
from listenwell.report.wording import part_title

SHOWN_FINDINGS = 50
LEAK_VERDICTS = {"clean": "No leak found", "leaks": "Leaks found", "incomplete": "Not everything could be compared"}
NOT_CHECKED = "Not checked for leaks"
SEAL_VERDICTS = {"sealed": "Sealed", "reopened": "Reopened", "unsealed": "Unsealed"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A verdict in a few words, whether it is good news, and what it rests on."""

    verdict: str
    is_good: bool
    evidence: str


def leak_statement(results: StudyResults) -> Statement:
    """Whether parts of the study share what they must not share."""
    leaks: dict[str, Any] | None = results.raw["leaks"]
    if leaks is None:
        return Statement(NOT_CHECKED, False, "No leak gate was run, so nothing says that the tests are independent.")
    warnings = len(leaks["findings"]) - leaks["n_leaks"]
    compared = (
        f"{sum(leaks['n_clips'].values())} clips and {sum(leaks['n_backgrounds'].values())} backgrounds of "
        f"{len(leaks['n_clips'])} parts were compared by group, recording, origin, samples and by ear "
        f"({leaks['n_pairs']:,} pairs): {leaks['n_leaks']} leaks, {warnings} warnings"
    )
    missing = f", {len(leaks['unreadable'])} sounds could not be read" if leaks["unreadable"] else ""
    return Statement(LEAK_VERDICTS[leaks["verdict"]], leaks["verdict"] == "clean", f"{compared}{missing}.")


def seal_statement(results: StudyResults) -> Statement:
    """Whether the thresholds stood before anybody looked at the tests."""
    seal: dict[str, Any] | None = results.raw["seal"]
    if seal is None:
        return Statement("Unsealed", False, "No log of commits and looks was kept.")
    earlier = Counter(opening["test_set"] for opening in seal["earlier"])
    before = ". Opened before by other runs on this machine: " + ", ".join(
        f"{part_title(name)} {n} time{'s' * (n != 1)}" for name, n in earlier.items()
    )
    reason = seal["reason"].rstrip(".") + (before if earlier else "") + "."
    return Statement(SEAL_VERDICTS[seal["verdict"]], seal["verdict"] == "sealed", reason[0].upper() + reason[1:])


def finding_table(results: StudyResults) -> Table | None:
    """The leak gate's findings, leaks first, at most SHOWN_FINDINGS; None when there are none."""
    found = (results.raw["leaks"] or {"findings": []})["findings"]
    rows = [
        (
            "leak" if finding["is_leak"] else "warning",
            finding["kind"],
            f"{part_title(finding['part_a'])}: {finding['id_a']}",
            f"{part_title(finding['part_b'])}: {finding['id_b']}",
            finding["evidence"],
        )
        for finding in found[:SHOWN_FINDINGS]
    ]
    caption = "What the leak gate found" + (f", the first {SHOWN_FINDINGS}" if len(found) > SHOWN_FINDINGS else "")
    return plain_table(caption, texts("", "Kind", "One", "Other", "Evidence"), rows)


def seal_table(results: StudyResults) -> Table | None:
    """The log of commits and looks, or None without one."""
    seal = results.raw["seal"] or {"entries": []}
    rows = [
        (
            str(entry["number"]),
            entry["time"],
            entry["who"],
            entry["event"],
            part_title(entry["test_set"]) if entry["event"] == "look" else ", ".join(entry["thresholds"]),
            entry["hash"][:16],
        )
        for entry in seal["entries"]
    ]
    return plain_table("Commits and looks", numbers("Entry") + texts("Time (UTC)", "Who", "What", "Of", "Hash"), rows)


def sheet_tables(results: StudyResults) -> list[Table]:
    """For every test set: its classes, what it can show, its licences."""
    tables = []
    for test_set in results.raw["test_sets"]:
        if "sheet" in test_set:
            tables += [_class_table(test_set), _precision_table(test_set), _licence_table(test_set)]
    return [table for table in tables if table is not None]


def _class_table(test_set: dict[str, Any]) -> Table | None:
    rows = [
        (
            each["label"],
            *(str(each[f"n_{what}"]) for what in ("clips", "groups", "recordings", "categories")),
            *(f"{each[f'{which}_s']:.2f}" for which in ("shortest", "median", "longest")),
        )
        for each in test_set["sheet"]["classes"]
    ]
    heads = texts("Label") + numbers("Clips", "Groups", "Recordings", "Categories")
    heads += numbers("Shortest (s)", "Median (s)", "Longest (s)")
    return plain_table(f"{test_set['title']}: classes", heads, rows)


def _precision_table(test_set: dict[str, Any]) -> Table | None:
    precision = test_set["sheet"]["precision"]
    rows = [
        (
            each["measure"].replace("_", " "),
            str(each["n_clips"]),
            str(each["n_groups"]),
            f"{each['effective_n']:.0f}",
            *(f"±{100 * half_width:.1f}" for _, half_width in each["half_widths"]),
        )
        for each in precision
    ]
    shares = [f"At {share:.0%} (points)" for share, _ in precision[0]["half_widths"]]
    heads = texts("Measure") + numbers("Clips", "Groups", "Effective n", *shares)
    return plain_table(f"{test_set['title']}: what it can show, half-widths of 95 % intervals to expect", heads, rows)


def _licence_table(test_set: dict[str, Any]) -> Table | None:
    rows = [(licence, str(n)) for licence, n in test_set["sheet"]["licences"].items()]
    return plain_table(f"{test_set['title']}: licences", texts("Licence") + numbers("Clips"), rows)
