"""What speaks for the numbers: the leak gate's verdict, the seal of the tests, the data sheets.

A study without a leak report is "not checked", one without a seal "unsealed": silence is never read as good news.

The smaller tables at the end of a report: who was where, thresholds, provenance.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from listenwell.report.results import StudyResults
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers, texts
from listenwell.report.wording import format_number, format_threshold, method_title, part_title


def allocation_table(results: StudyResults) -> Table | None:
    """Return clips, groups and categories of every part and label, or None when the study does not tell."""
    rows = [
        (
            part_title(entry["part"]),
            entry["label"],
            str(entry["n_clips"]),
            str(entry["n_groups"]),
            str(entry["categories"]),
        )
        for entry in results.raw["allocation"]
    ]
    heads = texts("Part", "Label") + numbers("Clips", "Groups", "Categories")
    return plain_table("Clips and groups of each part", heads, rows)


def background_table(results: StudyResults) -> Table | None:
    """Return the number of backgrounds of every part and kind, or None."""
    rows = [(part_title(entry["part"]), entry["kind"], str(entry["n"])) for entry in results.raw["backgrounds"]]
    return plain_table("Background recordings of each part", texts("Part", "Kind") + numbers("Recordings"), rows)


def shared_groups(results: StudyResults) -> dict[str, list[str]]:
    """Return the groups that stand in more than one part, each with its parts: a leak, so it should be empty."""
    parts: dict[str, list[str]] = {}
    for entry in results.raw["allocation"]:
        for group in entry["groups"]:
            if (part := part_title(entry["part"])) not in parts.setdefault(group, []):
                parts[group].append(part)
    return {group: names for group, names in sorted(parts.items()) if len(names) > 1}


def threshold_table(results: StudyResults) -> Table | None:
    """Return each method's default threshold and the one chosen on dev, or None when none was chosen."""
    rows = [
        (
            method_title(method),
            format_threshold(results.raw["methods"][method]["default_threshold"]),
            format_threshold(chosen["value"]),
            chosen["criterion"].replace("_", " "),
            format_number(chosen["dev_value"]),
            str(chosen["n"]),
            str(chosen["n_groups"]),
            chosen["dev_sha256"][:16],
        )
        for method, chosen in results.raw["thresholds"].items()
    ]
    heads = texts("Method") + numbers("Default", "Calibrated") + texts("Chosen by")
    heads += numbers("On dev", "Dev rows", "Groups") + texts("Hash of the dev scores")
    return plain_table("Thresholds, chosen on the dev scores only", heads, rows)


def quarantine_table(results: StudyResults) -> Table | None:
    """Return the clips that could not be read and why, or None when there is none."""
    rows = [(entry["clip_id"], entry["reason"]) for entry in results.raw["quarantine"]]
    return plain_table("Clips left out because they could not be read", texts("Clip", "Reason"), rows)


def provenance_table(results: StudyResults) -> Table | None:
    """Return the model's description and what made the run, one value per row."""
    return plain_table("What made these numbers", texts("What", "Value"), list(flatten_provenance(results)))


def flatten_provenance(results: StudyResults) -> Iterator[tuple[str, str]]:
    """Return the model's description and what made the run as names and values."""
    model = results.raw["model"]
    described = {
        "model": {
            "name": model["name"],
            "fingerprint": model["fingerprint"],
            "starter base": "yes" if model["is_starter_base"] else "no",
            **model["description"],
        },
        **results.raw["provenance"],
    }
    return _flatten(described, "")


def plain_table(caption: str, heads: tuple[Column, ...], rows: Sequence[tuple[str, ...]]) -> Table | None:
    """Return a table of plain texts, or None when it has no row."""
    if not rows:
        return None
    return Table(caption, heads, tuple(TableRow(tuple(Cell(text) for text in row)) for row in rows))


def _flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}: {key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(str(item) for item in value)
    else:
        yield name, "unknown" if value is None else str(value)


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
