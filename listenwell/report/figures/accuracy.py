"""Balanced accuracy against signal-to-noise ratio, duration and reverberation time."""

from collections.abc import Callable, Sequence

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
    style_of,
    to_svg,
)
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
