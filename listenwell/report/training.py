"""What the history of a fit says: one row per epoch, and whether it overfitted.

Overfitting is read off both losses after the best epoch: dev loss rises while train loss goes on falling. Train loss is
the mean over the epoch's augmented clips with dropout, dev loss that of the plain dev clips after it, so a gap between
the two says nothing by itself.
"""

from collections.abc import Mapping
from typing import Any

from listenwell.report.tables import Cell, Table, TableRow, numbers
from listenwell.report.wording import format_number

MEASURES = ("train_loss", "dev_loss", "dev_balanced_accuracy_at_0", "dev_auc")


def history_table(fit: Mapping[str, Any]) -> Table:
    """Return one row per epoch of a fit; the best epoch, by dev loss, is the main row."""
    rows = tuple(
        TableRow(
            (
                Cell(str(record["epoch"])),
                Cell(str(record["step"])),
                *(Cell(format_number(record[name])) for name in MEASURES),
                Cell(f"{record['learning_rate']:.2g}"),
            ),
            record["epoch"] == fit["best_epoch"],
        )
        for record in fit["history"]
    )
    heads = numbers("Epoch", "Step", "Train loss", "Dev loss", "Dev balanced accuracy at 0", "Dev AUC", "Learning rate")
    return Table(f"Fit {fit['name']}, seed {fit['seed']}", heads, rows)


def overfitting_sentence(fit: Mapping[str, Any]) -> str:
    """Say whether the fit overfitted; `history` holds at least one epoch."""
    best = next(record for record in fit["history"] if record["epoch"] == fit["best_epoch"])
    last = fit["history"][-1]
    at_best = (
        f"Dev loss was lowest, {format_number(best['dev_loss'])}, after epoch {best['epoch']} "
        f"(train loss {format_number(best['train_loss'])})"
    )
    if last is best:
        return f"{at_best}, the last one: no overfitting up to there, and more epochs might still help."
    until = f"after the last epoch, {last['epoch']},"
    dev, train = format_number(last["dev_loss"]), format_number(last["train_loss"])
    if last["train_loss"] < best["train_loss"]:
        return (
            f"{at_best}; {until} it was {dev} and train loss had fallen on to {train}: the fit overfitted from there "
            "on, and the weights of the best epoch are used."
        )
    return (
        f"{at_best}; {until} it was {dev}, but train loss had not fallen either ({train}): no sign of overfitting; the "
        "weights of the best epoch are used."
    )
