"""Curves as inline SVG: balanced accuracy against SNR and against duration, and the learning curve of a fit.

Drawn by matplotlib without a display; the same results give the same bytes (fixed hash salt, no date). Colours are CSS
variables with a value to fall back on, so one drawing serves the light and the dark page and stands alone too; lines
also differ in marker and dash. Text stays text, in the page's own font.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from listenwell.report.results import (
    CLEAN,
    StudyResults,
    balanced_accuracy_of,
    curve_rows,
    duration_ms_of,
    snr_db_of,
    t60_s_of,
)
from listenwell.report.wording import condition_title, count_phrase, method_title

SIZE_INCHES = (5.2, 3.7)
# What matplotlib draws with -> the page's variable and its value in the light page.
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
LINE_OF = {"zero-shot": 0, "fine-tuned": 1, "silero": 2, "webrtc": 3}
SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """An inline SVG and the sentence that stands below it."""

    svg: str
    caption: str


def accuracy_curves(results: StudyResults) -> list[Curve]:
    """Return the curves over SNR, duration and reverberation time, each for the test sets with two points of it."""
    kinds: tuple[tuple[str, str, Callable[[str], float | None]], ...] = (
        ("signal-to-noise ratio", "Signal-to-noise ratio (dB)", snr_db_of),
        ("duration", "Duration", duration_ms_of),
        ("reverberation time", "Reverberation time", t60_s_of),
    )
    curves: list[Curve] = []
    for kind, label, value_of in kinds:
        for test_set in results.test_sets:
            conditions = [c for c in results.conditions_of(test_set) if value_of(c) is not None]
            conditions.sort(key=lambda c: value_of(c) or 0.0)
            if len(conditions) > 1:
                whole = [CLEAN] if CLEAN in results.conditions_of(test_set) else []
                name = f"curve-{len(curves) + 1}"
                curves.append(_accuracy_curve(results, test_set, [*conditions, *whole], (name, kind, label)))
    return curves


def _accuracy_curve(
    results: StudyResults, test_set: str, conditions: Sequence[str], names: tuple[str, str, str]
) -> Curve:
    name, kind, label = names
    counts: list[str] = []
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _new_figure(results.title_of(test_set))
        lowest = 0.5
        for place, (method, threshold) in enumerate(curve_rows(results)):
            rows = [results.find_row(method, threshold, test_set, condition) for condition in conditions]
            points = [(x, balanced_accuracy_of(row)) for x, row in enumerate(rows) if row is not None]
            shift = 0.06 * (place - 1.5)
            lowest = min([lowest, *(metric.low for _, metric in points)])
            counts += [count_phrase(metric.n, metric.n_groups) for _, metric in points]
            style = LINE_OF[method] if method in LINE_OF else place % len(LINES)
            values = [metric.value for _, metric in points]
            below = [metric.value - metric.low for _, metric in points]
            above = [metric.high - metric.value for _, metric in points]
            xs = [x + shift for x, _ in points]
            n_joined = sum(conditions[x] != CLEAN for x, _ in points)
            axes.plot(xs[:n_joined], values[:n_joined], DASHES[style], color=LINES[style])
            axes.errorbar(
                xs, values, [below, above],
                fmt=MARKERS[style], color=LINES[style], elinewidth=1.0, capsize=2.0,
                label=f"{method_title(method)}, {threshold}",
            )  # fmt: skip
        axes.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_ylim(max(0.0, lowest - 0.03), 1.01)
        axes.set_xticks(range(len(conditions)), [_tick(condition, kind) for condition in conditions])
        axes.set_xlabel(label)
        axes.set_ylabel("Balanced accuracy")
        _legend_below(figure, axes)
        title = f"Balanced accuracy against {kind}, {results.title_of(test_set)}"
        svg = _to_svg(figure, name, title, "The numbers stand in the table of all conditions.")
    at_each_point = "; ".join(dict.fromkeys(counts))
    caption = f"{title}. Bars: 95 % intervals over groups; each point {at_each_point}; dotted: chance."
    return Curve(svg, caption)


def _tick(condition: str, kind: str) -> str:
    if condition == CLEAN:
        return "clean" if kind != "duration" else "whole\nclip"
    return condition_title(condition).removesuffix(" dB")


def learning_curves(results: StudyResults) -> list[Curve]:
    """Return one drawing per fit: losses and dev balanced accuracy per epoch, the best epoch marked."""
    return [_learning_curve(fit, f"fit-{i + 1}") for i, fit in enumerate(results.raw["fits"]) if fit["history"]]


def _learning_curve(fit: dict[str, Any], name: str) -> Curve:
    history = fit["history"]
    epochs = [record["epoch"] for record in history]
    best = next(record for record in history if record["epoch"] == fit["best_epoch"])
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(SIZE_INCHES[0] * 1.9, SIZE_INCHES[1] * 0.85), layout="constrained")
        panels = figure.subplots(1, 2)
        drawn = (
            (0, "train_loss", "Train loss", 0),
            (0, "dev_loss", "Dev loss", 1),
            (1, "dev_balanced_accuracy_at_0", "Dev balanced accuracy at 0", 2),
            (1, "dev_auc", "Dev AUC", 3),
        )
        for panel, key, label, style in drawn:
            values = [record[key] for record in history]
            panels[panel].plot(epochs, values, DASHES[style] + MARKERS[style], color=LINES[style], label=label)
        for axes, ylabel in zip(panels, ("Loss (nats per clip)", "On the dev clips"), strict=True):
            axes.axvline(fit["best_epoch"], color=QUIET, linewidth=0.9, linestyle=":")
            axes.set_xlabel("Epoch")
            axes.set_ylabel(ylabel)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="best")
        title = f"Learning curve of fit {fit['name']}, seed {fit['seed']}"
        svg = _to_svg(figure, name, title, "The numbers stand in the table below it.")
    caption = (
        f"{title}: {fit['n_steps']} steps; dotted: the best epoch, {fit['best_epoch']}, chosen by dev loss "
        f"({best['dev_loss']:.3f} there)."
    )
    return Curve(svg, caption)


def _new_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the drawing as an <svg> element; `name` keeps its ids apart from those of other drawings on the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for drawn, (variable, value) in VARIABLES.items():
        svg = svg.replace(drawn, f"var({variable}, {value})")
    labelled = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    head = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    svg = svg.replace("<svg", labelled, 1)
    end = svg.index(">") + 1
    return svg[:end] + head + svg[end:]
