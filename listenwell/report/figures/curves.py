"""Balanced accuracy against signal-to-noise ratio, duration and reverberation time.

What every threshold of every method would give: ROC and DET, with the chosen threshold marked.

ROC: hit rate over false-alarm rate. DET: miss over false-alarm rate on normal-deviate scales (Martin et al. 1997,
Eurospeech), where good detectors can be told apart. Rates of 0 and 1 lie at half a clip from the end of the scale.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.special import ndtri

from listenwell.evaluate.methods import CALIBRATED, DEFAULT, Row
from listenwell.report.figures.drawing import (
    DASHES,
    GRID,
    HEIGHT_INCHES,
    LINES,
    MARKERS,
    QUIET,
    WIDE_INCHES,
    WIDTH_INCHES,
    Drawing,
    legend_below,
    new_panels,
    short_name,
    style_of,
    to_svg,
)
from listenwell.report.results import (
    CLEAN,
    StudyResults,
    balanced_accuracy_of,
    curve_rows,
    distinct,
    duration_ms_of,
    evidence_of,
    metric_of,
    snr_db_of,
    t60_s_of,
)
from listenwell.report.wording import condition_phrase, condition_title, count_phrase, format_number, method_title


def accuracy_curves(results: StudyResults) -> list[Drawing]:
    """Return the curves over SNR, duration and reverberation time, each for the test sets with two points of it."""
    kinds: tuple[tuple[str, str, Callable[[str], float | None]], ...] = (
        ("signal-to-noise ratio", "Signal-to-noise ratio (dB)", snr_db_of),
        ("duration", "Duration", duration_ms_of),
        ("reverberation time", "Reverberation time", t60_s_of),
    )
    curves: list[Drawing] = []
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
) -> Drawing:
    name, kind, label = names
    counts: list[str] = []
    with new_panels(1, WIDTH_INCHES, HEIGHT_INCHES) as (figure, (axes,)):
        axes.set_title(short_name(results.title_of(test_set)))
        lowest = 0.5
        for place, (method, threshold) in enumerate(curve_rows(results)):
            rows = [results.find_row(method, threshold, test_set, condition) for condition in conditions]
            points = [(x, balanced_accuracy_of(row)) for x, row in enumerate(rows) if row is not None]
            shift = 0.06 * (place - 1.5)
            lowest = min([lowest, *(metric.low for _, metric in points)])
            counts += [count_phrase(metric.n, metric.n_groups) for _, metric in points]
            style = style_of(method, place)
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
        legend_below(figure, axes)
        title = f"Balanced accuracy against {kind}, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The numbers stand in the table of all conditions.")
    at_each_point = "; ".join(dict.fromkeys(counts))
    caption = f"{title}. Bars: 95 % intervals over groups; each point {at_each_point}; dotted: chance."
    return Drawing(svg, caption)


def _tick(condition: str, kind: str) -> str:
    if condition == CLEAN:
        return "clean" if kind != "duration" else "whole\nclip"
    return condition_title(condition).removesuffix(" dB")


TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
Floats = NDArray[np.float64]


def detection_curves(results: StudyResults) -> list[Drawing]:
    """Return one drawing per test set and condition whose curves the evidence holds, all methods in each."""
    drawings: list[Drawing] = []
    for test_set, curves in evidence_of(results, "operating_curves", {}).items():
        for condition in distinct(curve["condition"] for curve in curves):
            own = [curve for curve in curves if curve["condition"] == condition]
            drawings.append(_detection_curve(results, test_set, condition, own, f"roc-{len(drawings) + 1}"))
    return drawings


def _detection_curve(
    results: StudyResults, test_set: str, condition: str, curves: Sequence[dict[str, Any]], name: str
) -> Drawing:
    n_speech, n_other = curves[0]["n_speech"], curves[0]["n_other"]
    with new_panels(2, WIDE_INCHES, 1.15 * HEIGHT_INCHES) as (figure, (roc, det)):
        for place, curve in enumerate(curves):
            style = style_of(curve["method"], place)
            false_alarms = np.array(curve["false_alarms"]) / n_other
            misses = 1.0 - np.array(curve["hits"]) / n_speech
            line: Any = {"linestyle": DASHES[style], "color": LINES[style], "linewidth": 1.4}
            rows = [results.find_row(curve["method"], each, test_set, condition) for each in (CALIBRATED, DEFAULT)]
            calibrated, default = rows
            roc.plot(false_alarms, 1.0 - misses, **line, label=_label(curve["method"], calibrated or default))
            det.plot(_deviate(false_alarms, n_other), _deviate(misses, n_speech), **line)
            for row, fill in ((calibrated, LINES[style]), (default, "none")):
                if row is not None:
                    alarm, hit = 1.0 - metric_of(row, "specificity").value, metric_of(row, "recall").value
                    mark: Any = {"color": LINES[style], "markerfacecolor": fill, "marker": MARKERS[style], "zorder": 3}
                    roc.plot([alarm], [hit], **mark)
                    det.plot([_deviate(np.array(alarm), n_other)], [_deviate(np.array(1.0 - hit), n_speech)], **mark)
        _dress_roc(roc, f"ROC, {short_name(results.title_of(test_set))}, {condition}")
        _dress_det(det, n_speech, n_other)
        legend_below(figure, roc)
        title = f"ROC and DET {condition_phrase(condition)}, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The areas under the curves stand in the table of all conditions.")
    caption = (
        f"{title}: {n_speech} speech clips, {n_other} others. Filled mark: the calibrated threshold, hollow: the "
        "default. DET: nearer to the lower left is better."
    )
    return Drawing(svg, caption)


def _label(method: str, row: Row | None) -> str:
    return method_title(method) + (f", AUC {format_number(metric_of(row, 'roc_auc').value)}" if row else "")


def _deviate(rates: Floats, n: int) -> Floats:
    """Normal deviates of rates out of n clips, (k,)."""
    return np.asarray(ndtri(np.clip(rates, 0.5 / n, 1.0 - 0.5 / n)))


def _dress_roc(axes: Axes, title: str) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    axes.set_title(title)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True, axis="x", color=GRID)
    axes.set_xlabel("False-alarm rate")
    axes.set_ylabel("Speech found")


def _dress_det(axes: Axes, n_speech: int, n_other: int) -> None:
    axes.set_title("DET")
    for axis, n in ((axes.xaxis, n_other), (axes.yaxis, n_speech)):
        shown = [tick for tick in TICKS if tick >= 0.5 / n]
        axis.set_ticks(ndtri(shown), [f"{100 * tick:g}" for tick in shown])
    axes.set_xlim(ndtri(0.4 / n_other), ndtri(0.97))
    axes.set_ylim(ndtri(0.4 / n_speech), ndtri(0.97))
    axes.grid(visible=True, axis="x", color=GRID)
    axes.set_xlabel("False-alarm rate (%)")
    axes.set_ylabel("Miss rate (%)")
