"""Forest plot: the share of right decisions of every group with its interval, the hardest speaker or source first.

Reliability diagrams: of the clips to which a probability was given, how many were speech.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from listenwell.report.figures.drawing import (
    GRID,
    HEIGHT_INCHES,
    LINES,
    QUIET,
    WIDE_INCHES,
    WIDTH_INCHES,
    Drawing,
    new_panels,
    short_name,
    to_svg,
)
from listenwell.report.results import StudyResults, evidence_of
from listenwell.report.wording import count_phrase, format_number

MOST_SHOWN = 20
"""Groups of a panel; more cannot be read."""
PANELS = {"SPEECH": ("Speech found", 1), "NONSPEECH": ("Other sounds rejected", 2)}
"""Label -> title and line style."""


def group_plots(results: StudyResults) -> list[Drawing]:
    """Return one drawing per test set: a panel for the groups of each label, at most MOST_SHOWN of them."""
    return [
        _group_plot(results, test_set, f"groups-{i + 1}")
        for i, test_set in enumerate(evidence_of(results, "errors", {}))
        if "low" in _groups(results, test_set)[0]
    ]


def _groups(results: StudyResults, test_set: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = evidence_of(results, "errors", {})[test_set]["groups"]
    return found


def _group_plot(results: StudyResults, test_set: str, name: str) -> Drawing:
    by_label = {label: [g for g in _groups(results, test_set) if g["label"] == label] for label in PANELS}
    n_rows = min(MOST_SHOWN, max(len(groups) for groups in by_label.values()))
    with new_panels(len(PANELS), WIDE_INCHES, 1.1 + 0.22 * n_rows) as (figure, panels):
        for axes, (label, groups) in zip(panels, by_label.items(), strict=True):
            _draw_groups(axes, groups[:MOST_SHOWN], n_rows, *PANELS[label])
        title = f"Right decisions by group on clean clips, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The hardest group of each class stands first.")
    left_out = "; ".join(
        sentence for label, groups in by_label.items() for sentence in _say_left_out(PANELS[label][0], groups)
    )
    caption = (
        f"{title}: at the calibrated threshold, the hardest first; n clips of each group, Wilson's 95 % interval over "
        f"them, which says nothing about other groups. "
        f"{left_out or 'Every group is shown'}."
    )
    return Drawing(svg, caption)


def _draw_groups(axes: Axes, groups: Sequence[dict[str, Any]], n_rows: int, title: str, style: int) -> None:
    places = range(len(groups))
    values = [each["right"] for each in groups]
    below = [each["right"] - each["low"] for each in groups]
    above = [each["high"] - each["right"] for each in groups]
    axes.set_title(title)
    axes.errorbar(
        values, list(places), xerr=[below, above], fmt="o", color=LINES[style], elinewidth=1.0, markersize=4.5
    )
    axes.set_yticks(list(places), [f"{short_name(each['group'])}, n {each['n']}" for each in groups], fontsize=8.5)
    axes.set_ylim(n_rows - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.grid(visible=True, axis="x", color=GRID)
    axes.set_xlabel("Share of clips decided rightly")


def _say_left_out(title: str, groups: Sequence[dict[str, Any]]) -> list[str]:
    hidden = groups[MOST_SHOWN:]
    if not hidden:
        return []
    least = min(each["right"] for each in hidden)
    n_clips = sum(each["n"] for each in hidden)
    return [f"{title}: not shown {count_phrase(n_clips, len(hidden))}, none below {format_number(least)}"]


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
