"""What a fit writes while it runs, one JSON object per line, and the overfitting that its epochs show.

plans.jsonl     one line per clip taken, in order (listenwell.augment.plan)
metrics.jsonl   one line per optimiser step, and one per epoch with what dev says

Lines are appended at every step and are on the disk before a checkpoint counts them. A resumed fit first cuts both
files back to where its checkpoint stands, so the files of a run that was killed and resumed equal those of one that
never was. A finished fit holds the checksums of both (spec.json).

Overfitting: dev loss rises after the best epoch while train loss goes on falling. Train loss is the mean over the
epoch's augmented clips with dropout, dev loss that of the dev clips after it, shifted and scaled to suit them, so the
gap between the two says nothing by itself; both directions at once do. Knows nothing of torch.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.augment.plan import Plan
from listenwell.errors import CheckpointError
from listenwell.storage.atomic_files import disk_faults_named, flush, make_folder

PLANS, METRICS = LOGS = ("plans.jsonl", "metrics.jsonl")
EPOCHS = 2
"""Epochs in a row that must show overfitting: one may be chance."""


class FitLog:
    """The two files below `folder`, nothing where it is None; call `rewind` before the first line."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.n_plans = self.n_metrics = 0

    def rewind(self, n_plans: int, n_metrics: int) -> None:
        """Keep the first n lines of each file: 0 and 0 begin anew. Raises CheckpointError where fewer are there."""
        self.n_plans, self.n_metrics = n_plans, n_metrics
        if self.folder is not None:
            _keep_lines(self.folder / PLANS, n_plans)
            _keep_lines(self.folder / METRICS, n_metrics)

    def add_plans(self, plans: Iterable[Plan]) -> None:
        """Append the plans of one batch."""
        lines = [json.dumps(plan.to_json(), ensure_ascii=False) for plan in plans]
        self.n_plans += len(lines)
        self._append(PLANS, lines)

    def add_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one step's or one epoch's figures."""
        self.n_metrics += 1
        self._append(METRICS, [json.dumps(record)])

    def flush(self) -> None:
        """Put all lines on the disk itself."""
        for path in [] if self.folder is None else [self.folder / name for name in LOGS]:
            with disk_faults_named(path):
                flush(path)

    def _append(self, name: str, lines: Iterable[str]) -> None:
        if self.folder is None:
            return
        path = self.folder / name
        with disk_faults_named(path), path.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)


def _keep_lines(path: Path, n_lines: int) -> None:
    make_folder(path.parent)
    with disk_faults_named(path), path.open("a+b") as file:
        file.seek(0)
        for number in range(n_lines):
            if not file.readline().endswith(b"\n"):
                raise CheckpointError(
                    f"{path}: was cut or damaged: its checkpoint counts {n_lines} lines, {number} are there; delete "
                    "the folder stacks/ of the run to train its fits from the start."
                )
        file.truncate()


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
