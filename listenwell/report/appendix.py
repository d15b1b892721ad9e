"""The smaller tables at the end of a report: who was where, thresholds, provenance."""

from collections.abc import Iterator, Mapping, Sequence
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
