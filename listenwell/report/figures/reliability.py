"""Reliability diagrams: of the clips to which a probability was given, how many were speech."""

from typing import Any

from listenwell.report.figures.drawing import (
    GRID,
    HEIGHT_INCHES,
    LINES,
    QUIET,
    WIDTH_INCHES,
    Drawing,
    new_panels,
    short_name,
    to_svg,
)
from listenwell.report.results import StudyResults, evidence_of

LINE = 1


def reliability_diagrams(results: StudyResults) -> list[Drawing]:
    """Return one drawing per test set: the share of speech in every bin of the probabilities that dev's map gives."""
    found = evidence_of(results, "probability", {"test_sets": {}})["test_sets"]
    return [
        _reliability_diagram(results, test_set, own["reliability"], f"reliability-{i + 1}")
        for i, (test_set, own) in enumerate(found.items())
        if "share_low" in own["reliability"][0]
    ]


def _reliability_diagram(results: StudyResults, test_set: str, bins: list[dict[str, Any]], name: str) -> Drawing:
    said = [each["mean_probability"] for each in bins]
    shares = [each["speech_share"] for each in bins]
    below = [each["speech_share"] - each["share_low"] for each in bins]
    above = [each["share_high"] - each["speech_share"] for each in bins]
    with new_panels(1, WIDTH_INCHES, HEIGHT_INCHES) as (figure, (axes,)):
        axes.set_title(short_name(results.title_of(test_set)))
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
        axes.errorbar(said, shares, [below, above], fmt="-o", color=LINES[LINE], elinewidth=1.0, linewidth=1.2)
        for x, y, each in zip(said, shares, bins, strict=True):
            above_it = y < 0.5
            axes.annotate(
                str(each["n"]), (x, y), (6, 5 if above_it else -5), textcoords="offset points", fontsize=8.5,
                va="bottom" if above_it else "top", color=QUIET,
            )  # fmt: skip
        axes.set_xlim(-0.02, 1.04)
        axes.set_ylim(-0.04, 1.04)
        axes.grid(visible=True, axis="x", color=GRID)
        axes.set_xlabel("Probability of speech that was given")
        axes.set_ylabel("Share that was speech")
        title = f"Reliability of the probabilities on clean clips, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "Honest probabilities lie on the dotted line.")
    caption = (
        f"{title}: Platt's map of dev; beside each point its clips; bars: 95 % intervals over groups; on the dotted "
        "line probabilities are honest, above it too low."
    )
    return Drawing(svg, caption)
