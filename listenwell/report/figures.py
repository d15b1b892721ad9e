"""The figures of a study: accuracy curves, groups, reliability, learning curves; waveforms of the preview.

All intervals are 95 %. The operating curves, which move with the threshold, are drawn by page.js.

Drawn by matplotlib without a display; the same results give the same bytes (fixed hash salt, no date). Colours are CSS
variables with a value to fall back on, so one drawing serves the light and the dark page and stands alone too; lines
also differ in marker and dash. Text stays text, in the page's own font. A point that was drawn with `add_tip` says its
numbers on the page when it is pointed at.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from listenwell.augment.conditions import CLEAN, match_condition
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.evaluate.intervals import Metric
from listenwell.report.blocks import Drawing
from listenwell.report.results import GroupErrors, ReliabilityBin, Results, distinct, metric_of
from listenwell.report.tables import overfitting_sentence
from listenwell.report.wording import (
    condition_title,
    count_phrase,
    format_metric,
    format_number,
    method_title,
    show_characters,
)

Floats = NDArray[np.float64]
AXES = {
    "snr_db": ("signal-to-noise ratio", "Signal-to-noise ratio (dB)"),
    "duration_ms": ("duration", "Duration"),
    "t60_s": ("reverberation time", "Reverberation time"),
}
"""What conditions vary -> its name and the axis over it."""
TIP = "tip:"
N_COLUMNS = 500
"""Stretches of a drawn waveform."""
MOST_SHOWN = 12
"""Groups of a panel; more cannot be read."""
PANELS = {"SPEECH": ("Speech found", 1), "NONSPEECH": ("Other sounds rejected", 2)}
"""Label -> title and line style."""
LEARNING = {
    "Loss (nats per clip)": ((0, "train_loss", "Train loss"), (1, "dev_loss", "Dev loss")),
    "On the dev clips": ((2, "dev_balanced_accuracy_at_0", "Dev balanced accuracy at 0"), (3, "dev_auc", "Dev AUC")),
}
"""Axis -> line style, measure and label of each line."""
WIDTH_INCHES, HEIGHT_INCHES = 5.2, 3.7
WIDE_INCHES = 1.9 * WIDTH_INCHES
LONGEST_NAME = 28
# What matplotlib draws with (figures.mplstyle too) -> the page's variable and its value in the light page.
INK, QUIET, GRID = "#010101", "#020202", "#030303"
LINES = ("#040404", "#050505", "#060606", "#070707")
VARIABLES = {
    INK: ("--ink", "#1f2328"),
    QUIET: ("--quiet", "#5c6168"),
    GRID: ("--rule", "#dcd9d0"),
    LINES[0]: ("--line-1", "#6b6f76"),
    LINES[1]: ("--line-2", "#b3321f"),
    LINES[2]: ("--line-3", "#1f5f99"),
    LINES[3]: ("--line-4", "#7a6312"),
}
MARKERS, DASHES = ("D", "o", "s", "^"), ("--", "-", "-", "-.")
STYLE_OF = {"zero-shot": 0, "fine-tuned": 1, "silero": 2, "webrtc": 3}
STYLE = Path(__file__).with_name("figures.mplstyle")


def accuracy_curves(results: Results) -> tuple[list[Drawing], list[Drawing]]:
    """Balanced accuracy over SNR, duration and reverberation time, each for the test sets with two points of it.

    Returns one drawing of each quantity, of the test set that the answers are read off where it has one, and the rest.
    """
    test_sets = sorted(results.judged_sets, key=lambda name: name != results.headline)
    first: list[Drawing] = []
    others: list[Drawing] = []
    for quantity in AXES:
        shown, hidden = first, others
        for test_set in test_sets:
            levels = {c: getattr(match_condition(c), quantity, None) for c in results.conditions_of(test_set)}
            conditions = sorted((c for c in levels if levels[c] is not None), key=lambda c: levels[c] or 0.0)
            if len(conditions) > 1:
                name = f"curve-{len(first) + len(others) + 1}"
                shown.append(_accuracy_curve(results, test_set, [*conditions, CLEAN], quantity, name))
                shown = hidden
    return first, others


def _accuracy_curve(results: Results, test_set: str, conditions: Sequence[str], quantity: str, name: str) -> Drawing:
    kind, label = AXES[quantity]
    whole = "whole\nclip" if quantity == "duration_ms" else "clean"
    ticks = [condition_title(condition).removesuffix(" dB") for condition in conditions[:-1]]
    lowest, counts = 0.5, []
    with new_panels(1, WIDTH_INCHES, HEIGHT_INCHES) as (figure, (axes,)):
        for place, method in enumerate(results.methods):
            threshold = results.better_threshold(method, test_set, conditions)
            metrics = [metric_of(results.row(method, threshold, test_set, condition)) for condition in conditions]
            lowest = min(lowest, *(metric.low for metric in metrics))
            counts += [count_phrase(metric.n, metric.n_groups) for metric in metrics]
            style = style_of(method, place)
            xs = np.arange(len(conditions)) + 0.06 * (place - 1.5)
            values = [metric.value for metric in metrics]
            axes.plot(xs[:-1], values[:-1], DASHES[style], color=LINES[style])
            title = f"{method_title(method)}, {threshold}"
            axes.errorbar(
                xs, values, _bars(values, metrics),
                fmt=MARKERS[style], color=LINES[style], elinewidth=1.0, capsize=2.0, label=title,
            )  # fmt: skip
            for x, condition, metric in zip(xs, conditions, metrics, strict=True):
                add_tip(axes, x, metric.value, f"{title}, {condition_title(condition)}: {format_metric(metric)}")
        axes.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_xticks(range(len(conditions)), [*ticks, whole])
        axes.set(
            title=f"{kind.capitalize()}, {short_name(results.title_of(test_set))}", xlabel=label,
            ylabel="Balanced accuracy", ylim=(max(0.0, lowest - 0.03), 1.01),
        )  # fmt: skip
        legend_below(figure, axes)
        title = f"Balanced accuracy against {kind}, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The numbers stand in tables/conditions.csv.")
    caption = (
        f"Bars: 95 % intervals over groups; each point {'; '.join(distinct(counts))}; dotted: chance. Opponents stand "
        "at whichever of their two thresholds scores higher here."
    )
    return Drawing(title, svg, caption)


def add_tip(axes: Axes, x: float, y: float, text: str) -> None:
    """Let the page say `text` where the point (x, y) is pointed at."""
    axes.plot([x], [y], "o", color=INK, markersize=16, alpha=0.0, gid=TIP + show_characters(text))


def _bars(values: Sequence[float], intervals: Sequence[Metric | GroupErrors]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    return [
        [value - interval.low for value, interval in zip(values, intervals, strict=True)],
        [interval.high - value for value, interval in zip(values, intervals, strict=True)],
    ]


def group_plots(results: Results) -> list[Drawing]:
    """Forest plots, one per test set: the share of right decisions of each group, at most MOST_SHOWN of a label."""
    drawings = []
    for number, (test_set, errors) in enumerate(results.evidence.errors.items(), start=1):
        by_label = {label: [group for group in errors.groups if group.label == label] for label in PANELS}
        n_rows = min(MOST_SHOWN, max(map(len, by_label.values())))
        with new_panels(len(PANELS), WIDE_INCHES, 1.1 + 0.22 * n_rows) as (figure, panels):
            for axes, (label, groups) in zip(panels, by_label.items(), strict=True):
                _draw_groups(axes, groups[:MOST_SHOWN], n_rows, *PANELS[label])
            title = f"Right decisions by group on clean clips, {results.title_of(test_set)}"
            svg = to_svg(figure, f"groups-{number}", title, "The hardest group of each class stands first.")
        left_out = [_describe_hidden(PANELS[label][0], groups[MOST_SHOWN:]) for label, groups in by_label.items()]
        caption = (
            "At the calibrated threshold, the hardest first; n clips of each group, Wilson's 95 % interval over them, "
            f"which says nothing about other groups. {'; '.join(filter(None, left_out)) or 'Every group is shown'}."
        )
        drawings.append(Drawing(title, svg, caption))
    return drawings


def _draw_groups(axes: Axes, groups: Sequence[GroupErrors], n_rows: int, title: str, style: int) -> None:
    places, shares = list(range(len(groups))), [group.right for group in groups]
    bars = _bars(shares, groups)
    for place, group in enumerate(groups):
        shown = f"{short_name(group.group)}: {group.n - group.n_wrong} of {group.n} clips right"
        add_tip(axes, group.right, place, shown)
    axes.errorbar(shares, places, xerr=bars, fmt="o", color=LINES[style], elinewidth=1.0, markersize=4.5)
    axes.set_yticks(places, [f"{short_name(group.group)}, n {group.n}" for group in groups], fontsize=8.5)
    axes.set(
        title=title, xlabel="Share of clips decided rightly", xlim=(-0.02, 1.02), ylim=(n_rows - 0.4, -0.6),
        xticks=[0.0, 0.25, 0.5, 0.75, 1.0],
    )  # fmt: skip
    axes.grid(visible=True, axis="x", color=GRID)


def _describe_hidden(title: str, hidden: Sequence[GroupErrors]) -> str:
    if not hidden:
        return ""
    counts = count_phrase(sum(group.n for group in hidden), len(hidden))
    return f"{title}: not shown {counts}, none below {format_number(min(group.right for group in hidden))}"


def reliability_diagrams(results: Results) -> list[Drawing]:
    """One drawing per test set: the share of speech in every bin of the probabilities that dev's map gives."""
    return [
        _reliability_diagram(results.title_of(test_set), judged.reliability, f"reliability-{number}")
        for number, (test_set, judged) in enumerate(results.evidence.probability.test_sets.items(), start=1)
    ]


def _reliability_diagram(test_set: str, bins: Sequence[ReliabilityBin], name: str) -> Drawing:
    bars = [[b.speech_share - b.share_low for b in bins], [b.share_high - b.speech_share for b in bins]]
    with new_panels(1, WIDTH_INCHES, HEIGHT_INCHES) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
        x, y = [b.mean_probability for b in bins], [b.speech_share for b in bins]
        axes.errorbar(x, y, bars, fmt="-o", color=LINES[1], elinewidth=1.0, linewidth=1.2)
        for b in bins:
            is_low = b.speech_share < 0.5
            axes.annotate(
                str(b.n), (b.mean_probability, b.speech_share), (6, 5 if is_low else -5), textcoords="offset points",
                fontsize=8.5, va="bottom" if is_low else "top", color=QUIET,
            )  # fmt: skip
        axes.set(
            title=short_name(test_set), xlim=(-0.02, 1.04), ylim=(-0.04, 1.04),
            xlabel="Probability of speech that was given", ylabel="Share that was speech",
        )  # fmt: skip
        axes.grid(visible=True, axis="x", color=GRID)
        title = f"Reliability of the probabilities on clean clips, {test_set}"
        svg = to_svg(figure, name, title, "Honest probabilities lie on the dotted line.")
    caption = (
        "Platt's map of dev; beside each point its clips; bars: 95 % intervals over groups; on the dotted "
        "line probabilities are honest, above it too low."
    )
    return Drawing(title, svg, caption)


def learning_curves(results: Results) -> list[Drawing]:
    """One drawing per fit: losses and dev balanced accuracy per epoch, the best epoch marked."""
    drawings = []
    for number, fit in enumerate(results.fits, start=1):
        epochs = [epoch.epoch for epoch in fit.history]
        with new_panels(2, WIDE_INCHES, 0.85 * HEIGHT_INCHES) as (figure, panels):
            for axes, (ylabel, measures) in zip(panels, LEARNING.items(), strict=True):
                for style, key, label in measures:
                    values = [getattr(epoch, key) for epoch in fit.history]
                    axes.plot(epochs, values, DASHES[style] + MARKERS[style], color=LINES[style], label=label)
                axes.axvline(fit.best_epoch, color=QUIET, linewidth=0.9, linestyle=":")
                axes.set(xlabel="Epoch", ylabel=ylabel)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.legend(loc="best")
            title = f"Learning curve of fit {fit.name}, seed {fit.seed}"
            svg = to_svg(figure, f"fit-{number}", title, "The numbers stand in results.json.")
        caption = f"{fit.n_steps} steps; dotted: the best epoch by dev loss. {overfitting_sentence(fit)}"
        drawings.append(Drawing(title, svg, caption))
    return drawings


def draw_waveforms(name: str, title: str, sounds: Sequence[tuple[str, Waveform]]) -> Drawing:
    """The waveforms of sounds (title, samples) one below the other on one axis of time."""
    n = len(sounds)
    with new_panels(n, WIDE_INCHES, 0.5 + 0.75 * n, is_stacked=True) as (figure, panels):
        for axes, (sound, samples) in zip(panels, sounds, strict=True):
            pieces = np.array_split(samples, min(N_COLUMNS, samples.size))
            seconds = np.linspace(0.0, samples.size / SAMPLE_RATE_HZ, len(pieces))
            lows, highs = [piece.min() for piece in pieces], [piece.max() for piece in pieces]
            axes.fill_between(seconds, lows, highs, color=LINES[2], linewidth=0.6)
            axes.set_title(sound, fontsize=8.5, fontweight="normal")
            axes.set_ylim(-1.05, 1.05)
        panels[-1].set_xlabel("Time (s)")
        svg = to_svg(figure, name, title, "Lowest and highest sample of each stretch, full scale is 1.")
    return Drawing(title, svg, "Full scale is 1.")


@contextmanager
def new_panels(
    n_panels: int, width_inches: float, height_inches: float, is_stacked: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure in the report's look and its panels, side by side, or stacked on one axis; draw and call to_svg
    within the block."""
    with matplotlib.rc_context(fname=STYLE), warnings.catch_warnings():
        # Names may be in any script. The browser's fonts draw them; matplotlib's own only measures.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        shape = (n_panels, 1) if is_stacked else (1, n_panels)
        yield figure, list(figure.subplots(*shape, sharex=is_stacked, squeeze=False).flat)


def style_of(method: str, place: int) -> int:
    """Which of the four line styles a method has: the same in every drawing; others by their place."""
    return STYLE_OF.get(method, place % len(LINES))


def legend_below(figure: Figure, axes: Axes) -> None:
    """Set the labels of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def short_name(name: str) -> str:
    """A name from a user's file as a label: on one line, every character visible, not too long."""
    shown = show_characters(" ".join(name.split()))
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the drawing as an <svg> element; `name` keeps its ids apart from those of other drawings on the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(rf'<g id="{TIP}([^"]*)"', r'<g class="tip" data-tip="\1"', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for drawn, (variable, value) in VARIABLES.items():
        svg = svg.replace(drawn, f"var({variable}, {value})")
    labelled = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    shown_title, shown_description = (escape(show_characters(text)) for text in (title, description))
    head = f'<title id="{name}-title">{shown_title}</title><desc id="{name}-desc">{shown_description}</desc>'
    svg = svg.replace("<svg", labelled, 1)
    end = svg.index(">") + 1
    return svg[:end] + head + svg[end:]
