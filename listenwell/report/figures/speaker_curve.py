"""Balanced accuracy against the number of training speakers, on a logarithmic scale: a doubling is a step."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, NullLocator

from listenwell.report.figures.drawing import (
    DASHES,
    HEIGHT_INCHES,
    LINES,
    MARKERS,
    QUIET,
    WIDTH_INCHES,
    Drawing,
    legend_below,
    new_panels,
    short_name,
    to_svg,
)
from listenwell.report.results import StudyResults, distinct
from listenwell.report.speaker_curve import TITLE, rows_of_curve
from listenwell.report.wording import condition_title, count_phrase

SHIFT = 1.02
"""Conditions stand beside each other: a factor on the number of speakers."""


def speaker_curves(results: StudyResults) -> list[Drawing]:
    """Return one drawing per test set, all conditions of the curve in it; none where the study drew no curve."""
    return [
        _speaker_curve(results, test_set, rows, f"speakers-{i + 1}")
        for i, test_set in enumerate(results.test_sets)
        if (rows := rows_of_curve(results, test_set))
    ]


def _speaker_curve(results: StudyResults, test_set: str, rows: Sequence[Mapping[str, Any]], name: str) -> Drawing:
    counts = []
    with new_panels(1, WIDTH_INCHES, HEIGHT_INCHES) as (figure, (axes,)):
        axes.set_title(short_name(results.title_of(test_set)))
        for style, condition in enumerate(distinct(row["condition"] for row in rows), start=1):
            own = [row for row in rows if row["condition"] == condition]
            places = [row["n_speakers"] * SHIFT ** (style - 1) for row in own]
            median = [row["median_seed"] for row in own]
            counts += [f"{condition_title(condition)} {count_phrase(m['n'], m['n_groups'])}" for m in median]
            axes.plot(
                places, [row["mean"] for row in own], DASHES[style] + MARKERS[style], color=LINES[style],
                label=condition_title(condition),
            )  # fmt: skip
            axes.vlines(places, [m["low"] for m in median], [m["high"] for m in median], LINES[style], linewidth=1.0)
            for place, row in zip(places, own, strict=True):
                axes.plot([place] * len(row["values"]), row["values"], "_", color=LINES[style], markersize=7)
        axes.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_ylim(max(0.0, min([0.5, *(row["median_seed"]["low"] for row in rows)]) - 0.03), 1.01)
        axes.set_xscale("log")
        speakers = sorted({row["n_speakers"] for row in rows})
        axes.xaxis.set_major_locator(FixedLocator(speakers))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(n) for n in speakers])
        axes.set_xlabel("Training speakers")
        axes.set_ylabel("Balanced accuracy")
        legend_below(figure, axes)
        title = f"{TITLE}, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The numbers stand in the table beside it.")
    n_seeds = max(len(row["seeds"]) for row in rows)
    caption = (
        f"{title}. Marks: the mean over seeds ({n_seeds}), dashes: each seed; bars: the 95 % interval of the median "
        f"seed, over the groups of the test ({'; '.join(distinct(counts))}); dotted: chance."
    )
    return Drawing(svg, caption)
