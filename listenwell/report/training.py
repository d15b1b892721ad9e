"""What the history of a fit says: one row per epoch, and whether it overfitted, by the rule of training itself."""

from collections.abc import Mapping
from typing import Any

from listenwell.report.tables import Cell, Table, TableRow, numbers
from listenwell.report.wording import format_number
from listenwell.train.overfitting import EPOCHS, describe_overfitting

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
    named = describe_overfitting(fit["history"], fit["best_epoch"])
    if named:
        return named
    best = next(record for record in fit["history"] if record["epoch"] == fit["best_epoch"])
    last = fit["history"][-1]
    at_best = (
        f"Dev loss was lowest, {format_number(best['dev_loss'])}, after epoch {best['epoch']} "
        f"(train loss {format_number(best['train_loss'])})"
    )
    if last is best:
        return f"{at_best}, the last one: no overfitting up to there, and more epochs might still help."
    return (
        f"{at_best}; after the last epoch, {last['epoch']}, it was {format_number(last['dev_loss'])} (train loss "
        f"{format_number(last['train_loss'])}): no {EPOCHS} epochs in a row with rising dev and falling train loss, so "
        "no overfitting is named; the weights of the best epoch are used."
    )
