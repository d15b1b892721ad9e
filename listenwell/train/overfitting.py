"""Overfitting, read off the history of a fit: dev loss rises after the best epoch while train loss goes on falling.

Train loss is the mean over the epoch's augmented clips with dropout, dev loss that of the plain dev clips after it, so
the gap between the two says nothing by itself; both directions at once do. Knows nothing of torch.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

EPOCHS = 2
"""Epochs in a row that must look so: one may be chance."""


def describe_overfitting(history: Sequence[Mapping[str, Any]], best_epoch: int) -> str:
    """One sentence when for EPOCHS epochs in a row after the best one dev loss rose and train loss fell, otherwise "".

    history: one record per epoch, from epoch 1, with epoch, train_loss and dev_loss.
    """
    after = history[best_epoch - 1 :]
    in_a_row = 0
    for before, record in itertools.pairwise(after):
        drifts = record["dev_loss"] > before["dev_loss"] and record["train_loss"] < before["train_loss"]
        in_a_row = in_a_row + 1 if drifts else 0
        if in_a_row == EPOCHS:
            start = after[record["epoch"] - EPOCHS - best_epoch]
            return (
                f"Overfitting: over epochs {start['epoch'] + 1} to {record['epoch']} dev loss rose from "
                f"{start['dev_loss']:.3f} to {record['dev_loss']:.3f} while train loss fell from "
                f"{start['train_loss']:.3f} to {record['train_loss']:.3f}; the adapter of epoch {best_epoch}, with "
                f"the lowest dev loss ({after[0]['dev_loss']:.3f}), is kept. Fewer epochs, more dropout or more "
                "augmentation may help."
            )
    return ""
