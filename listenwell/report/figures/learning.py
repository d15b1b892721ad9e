"""Learning curves: losses of a fit over its epochs."""

from typing import Any

from matplotlib.ticker import MaxNLocator

from listenwell.report.arms import overfitting_sentence
from listenwell.report.figures.drawing import (
    DASHES,
    HEIGHT_INCHES,
    LINES,
    MARKERS,
    QUIET,
    WIDE_INCHES,
    Drawing,
    new_panels,
    to_svg,
)
from listenwell.report.results import StudyResults

CURVES = (
    (0, "train_loss", "Train loss", 0),
    (0, "dev_loss", "Dev loss", 1),
    (1, "dev_balanced_accuracy_at_0", "Dev balanced accuracy at 0", 2),
    (1, "dev_auc", "Dev AUC", 3),
)
"""Panel, measure, label, style."""


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
