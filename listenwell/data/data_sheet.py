"""The data sheet of a test set: what is in it, where it is from, why it was chosen, how much it can show.

One value, `DataSheet`, said twice: `sheet_to_json` for programs, `format_sheet` as Markdown for people (after Gebru et
al. 2021, "Datasheets for datasets", arXiv:1803.09010, as far as a table can say it). Names come from strangers' files:
in the Markdown every cell is escaped, so that a group called "<script>" or "a|b" is read as such. Knows no files.
"""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from listenwell.data.clip import LABELS, Clip, Label
from listenwell.data.test_set import ChosenClip

NOT_STATED = "not stated"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKDOWN = re.compile(r"([\\`*\[\]{}#!~$|]|(?<!\w)_|_(?!\w))")


@dataclass(frozen=True, slots=True)
class Precision:
    """How exactly a measure can be known.

    effective_n: the clips over the design effect of this intra-class correlation; half_widths: (share right,
    half-width of its 95 % interval) each.
    """

    measure: str
    n_clips: int
    n_groups: int
    icc: float
    effective_n: float
    half_widths: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class DataSheet:
    """asked: what the set was drawn with (seed, sizes, tables), as JSON values."""

    asked: Mapping[str, Any]
    chosen: Sequence[ChosenClip]
    precision: Sequence[Precision]

    @property
    def clips(self) -> list[Clip]:
        """The clips, in the order of the test set."""
        return [each.clip for each in self.chosen]


def sheet_to_json(sheet: DataSheet) -> dict[str, Any]:
    """Return the sheet as JSON values; durations in s, shares and half-widths from 0 to 1."""
    return {
        "asked": dict(sheet.asked),
        "classes": [_describe_class(sheet.clips, label) for label in LABELS],
        "groups": _describe_groups(sheet.clips),
        "licences": dict(sorted(Counter(clip.licence or NOT_STATED for clip in sheet.clips).items())),
        "precision": [asdict(each) for each in sheet.precision],
        "clips": [_describe_clip(each) for each in sheet.chosen],
    }


def _describe_class(clips: Sequence[Clip], label: Label) -> dict[str, Any]:
    chosen = [clip for clip in clips if clip.label == label]
    shortest, median, longest = np.quantile([clip.duration_s for clip in chosen], [0, 0.5, 1]).tolist()
    return {
        "label": label,
        "n_clips": len(chosen),
        "n_groups": len({clip.group for clip in chosen}),
        "n_recordings": len({(clip.corpus, clip.recording) for clip in chosen}),
        "n_categories": len({clip.category for clip in chosen if clip.category}),
        "shortest_s": shortest,
        "median_s": median,
        "longest_s": longest,
    }


def _describe_groups(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    by_group: dict[str, list[Clip]] = {}
    for clip in clips:
        by_group.setdefault(clip.group, []).append(clip)
    return [
        {
            "group": group,
            "label": members[0].label,
            "n_clips": len(members),
            "n_recordings": len({(clip.corpus, clip.recording) for clip in members}),
            "total_s": round(sum(clip.duration_s for clip in members), 3),
            "categories": sorted({clip.category for clip in members if clip.category}),
            "corpora": sorted({clip.corpus for clip in members if clip.corpus}),
        }
        for group, members in by_group.items()
    ]


def _describe_clip(chosen: ChosenClip) -> dict[str, Any]:
    clip = asdict(chosen.clip)
    del clip["path"]  # where the file lies on one machine says nothing about the data; test_set.csv has it
    return {**clip, "why": chosen.reason}


def format_sheet(sheet: DataSheet) -> str:
    """Return the sheet as Markdown."""
    told = sheet_to_json(sheet)
    parts = [
        "# Data sheet of a test set",
        _table(("asked", "value"), [(name, _plain(value)) for name, value in told["asked"].items()]),
        "## Classes",
        _table(
            ("label", "clips", "groups", "recordings", "categories", "shortest (s)", "median (s)", "longest (s)"),
            [[_plain(value) for value in each.values()] for each in told["classes"]],
        ),
        "## What it can show",
        "Effective n: the clips divided by the design effect, with an intra-class correlation of "
        f"{sheet.precision[0].icc:g} assumed. "
        "Half-widths of the 95 % interval to expect, in percentage points:",
        _precision_table(sheet.precision),
        "## Licences",
        _table(("licence", "clips"), [(name, str(n)) for name, n in told["licences"].items()]),
        "## Groups",
        _table(
            ("group", "label", "clips", "recordings", "seconds", "categories", "corpora"),
            [[_plain(value) for value in each.values()] for each in told["groups"]],
        ),
        "## Clips",
        _clip_table(sheet.chosen),
    ]
    return "\n\n".join(parts) + "\n"


def _precision_table(precision: Sequence[Precision]) -> str:
    shares = [share for share, _ in precision[0].half_widths]
    header = ("measure", "clips", "groups", "effective n", *(f"at {share:.0%}" for share in shares))
    return _table(
        header,
        [
            (
                *(each.measure, str(each.n_clips), str(each.n_groups), f"{each.effective_n:.0f}"),
                *(f"±{100 * half_width:.1f}" for _, half_width in each.half_widths),
            )
            for each in precision
        ],
    )


def _clip_table(chosen: Sequence[ChosenClip]) -> str:
    header = ("clip", "label", "group", "source", "from (s)", "lasts (s)", "licence", "samples (sha256)", "why")
    rows = [
        (
            each.clip.clip_id,
            each.clip.label,
            each.clip.group,
            ": ".join(part for part in (each.clip.corpus, each.clip.recording, each.clip.origin) if part),
            f"{each.clip.start_s:.3f}",
            f"{each.clip.duration_s:.3f}",
            each.clip.licence or NOT_STATED,
            each.clip.pcm_sha256[:16],
            each.reason,
        )
        for each in chosen
    ]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(each) for each in value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def escape_markdown(text: str) -> str:
    """Return `text` on one line, shown as it is by Markdown: no markup, no HTML, no end of a table's cell."""
    return html.escape(_MARKDOWN.sub(r"\\\1", _CONTROL.sub(" ", text)), quote=False)
