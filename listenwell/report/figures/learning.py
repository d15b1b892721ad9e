"""Learning curves: losses of a fit over its epochs, and balanced accuracy over the number of training speakers.

Speakers lie on a logarithmic scale: a doubling is a step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from listenwell.report.figures.drawing import (
    DASHES,
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
    to_svg,
)
from listenwell.report.results import StudyResults, distinct
from listenwell.report.training import CURVE_TITLE, overfitting_sentence, rows_of_curve
from listenwell.report.wording import condition_title, count_phrase

CURVES = (
    (0, "train_loss", "Train loss", 0),
    (0, "dev_loss", "Dev loss", 1),
    (1, "dev_balanced_accuracy_at_0", "Dev balanced accuracy at 0", 2),
    (1, "dev_auc", "Dev AUC", 3),
)
"""Panel, measure, label, style."""
SHIFT = 1.02
"""Conditions stand beside each other: a factor on the number of speakers."""


def learning_curves(results: StudyResults) -> list[Drawing]:
    """Return one drawing per fit: losses and dev balanced accuracy per epoch, the best epoch marked."""
    return [_learning_curve(fit, f"fit-{i + 1}") for i, fit in enumerate(results.raw["fits"]) if fit["history"]]


def _learning_curve(fit: dict[str, Any], name: str) -> Drawing:
    epochs = [record["epoch"] for record in fit["history"]]
    with new_panels(2, WIDE_INCHES, 0.85 * HEIGHT_INCHES) as (figure, panels):
        for panel, key, label, style in CURVES:
            values = [record[key] for record in fit["history"]]
            panels[panel].plot(epochs, values, DASHES[style] + MARKERS[style], color=LINES[style], label=label)
        for axes, ylabel in zip(panels, ("Loss (nats per clip)", "On the dev clips"), strict=True):
            axes.axvline(fit["best_epoch"], color=QUIET, linewidth=0.9, linestyle=":")
            axes.set_xlabel("Epoch")
            axes.set_ylabel(ylabel)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="best")
        title = f"Learning curve of fit {fit['name']}, seed {fit['seed']}"
        svg = to_svg(figure, name, title, "The numbers stand in the table below it.")
    caption = f"{title}: {fit['n_steps']} steps; dotted: the best epoch by dev loss. {overfitting_sentence(fit)}"
    return Drawing(svg, caption)


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
        title = f"{CURVE_TITLE}, {results.title_of(test_set)}"
        svg = to_svg(figure, name, title, "The numbers stand in the table beside it.")
    n_seeds = max(len(row["seeds"]) for row in rows)
    caption = (
        f"{title}. Marks: the mean over seeds ({n_seeds}), dashes: each seed; bars: the 95 % interval of the median "
        f"seed, over the groups of the test ({'; '.join(distinct(counts))}); dotted: chance."
    )
    return Drawing(svg, caption)
