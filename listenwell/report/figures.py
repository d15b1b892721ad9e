"""The figures of a study: accuracy curves and learning curves.

All intervals are 95 %. What moves with the threshold (scores, operating curves) page.js draws, and reliability.

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
from listenwell.evaluate.intervals import Metric
from listenwell.report.blocks import Drawing
from listenwell.report.results import Results, distinct, metric_of
from listenwell.report.tables import overfitting_sentence
from listenwell.report.wording import (
    condition_title,
    count_phrase,
    format_metric,
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
LINES = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909")
VARIABLES = {
    INK: ("--ink", "#1f2328"),
    QUIET: ("--quiet", "#5c6168"),
    GRID: ("--rule", "#dcd9d0"),
    LINES[0]: ("--line-1", "#6b6f76"),
    LINES[1]: ("--line-2", "#b3321f"),
    LINES[2]: ("--line-3", "#1f5f99"),
    LINES[3]: ("--line-4", "#7a6312"),
    LINES[4]: ("--line-5", "#6a3d8f"),
    LINES[5]: ("--line-6", "#1f6f54"),
}
MARKERS, DASHES = ("D", "o", "s", "^", "v", "P"), ("--", "-", "-", "-.", ":", "--")
STYLE_OF = {"zero-shot": 0, "fine-tuned": 1, "silero": 2, "webrtc": 3, "fsmn": 4, "marblenet": 5}
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
    on_top = 10
    axes.plot([x], [y], "o", color=INK, markersize=6, alpha=0.0, zorder=on_top, gid=TIP + show_characters(text))


def _bars(values: Sequence[float], intervals: Sequence[Metric]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    return [
        [value - interval.low for value, interval in zip(values, intervals, strict=True)],
        [interval.high - value for value, interval in zip(values, intervals, strict=True)],
    ]


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


@contextmanager
def new_panels(n_panels: int, width_inches: float, height_inches: float) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure in the report's look and its panels, side by side; draw and call to_svg within the block."""
    with matplotlib.rc_context(fname=STYLE), warnings.catch_warnings():
        # Names may be in any script. The browser's fonts draw them; matplotlib's own only measures.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        yield figure, list(figure.subplots(1, n_panels, squeeze=False).flat)


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
    # no <title>: browsers show it as a tip of their own, over those of the points
    labelled = f'<svg role="img" aria-label="{escape(show_characters(title))}" aria-describedby="{name}-desc"'
    head = f'<desc id="{name}-desc">{escape(show_characters(description))}</desc>'
    svg = svg.replace("<svg", labelled, 1)
    end = svg.index(">") + 1
    return svg[:end] + head + svg[end:]
