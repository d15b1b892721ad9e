"""Choose a decision threshold on dev scores; the test is never seen here.

A clip is called SPEECH when its score is at or above the threshold. Between two neighbouring dev scores every
threshold decides alike, so candidates are the midpoints, and one beyond each end. A threshold carries the hash of the
dev scores that chose it: nobody can exchange the scores and keep the threshold unnoticed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from listenwell.atomic_files import write_json
from listenwell.errors import ManifestError
from listenwell.evaluate.metrics import Bools, Floats, require_classes
from listenwell.evaluate.scores import ScoreTable

Criterion = Literal["balanced_accuracy"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, what it maximises on the dev scores (dev_value), and which dev scores those were."""

    value: float
    criterion: str
    dev_value: float
    dev_sha256: str
    n: int
    n_groups: int


def choose_threshold(dev: ScoreTable, criterion: Criterion = "balanced_accuracy") -> Threshold:
    """Return the threshold with the largest balanced accuracy on `dev`; of several, the middle of the widest stretch.

    All rows count alike, so conditions with equally many clips weigh the same. Raises ManifestError when a class is
    missing.
    """
    require_classes(dev.is_speech, "a threshold")
    thresholds, values = balanced_accuracy_curve(dev.score, dev.is_speech)
    widths = np.diff(np.concatenate([[thresholds[0]], np.unique(dev.score), [thresholds[-1]]]))
    best = np.flatnonzero(values == values.max())
    chosen = best[np.argmax(widths[best])]
    return Threshold(
        float(thresholds[chosen]),
        criterion,
        float(values[chosen]),
        scores_sha256(dev),
        len(dev),
        int(np.unique(dev.group).size),
    )


def balanced_accuracy_curve(score: Floats, is_speech: Bools) -> tuple[Floats, Floats]:
    """Return every threshold that decides differently, rising, and the balanced accuracy at each; k + 1 for k scores.

    The first calls everything speech, the last nothing.
    """
    distinct = np.unique(score)
    ends = ([distinct[0] - 1.0], [distinct[-1] + 1.0])
    thresholds = np.concatenate([ends[0], (distinct[1:] + distinct[:-1]) / 2, ends[1]])
    below = [np.searchsorted(np.sort(score[rows]), thresholds, side="left") for rows in (is_speech, ~is_speech)]
    recall = 1.0 - below[0] / np.count_nonzero(is_speech)
    specificity = below[1] / np.count_nonzero(~is_speech)
    return thresholds, (recall + specificity) / 2


def scores_sha256(table: ScoreTable) -> str:
    """Hash of clip ids, conditions, labels and scores, in the order of the table."""
    columns: list[NDArray[np.generic]] = [table.clip_id, table.condition, table.label]
    text = json.dumps([column.tolist() for column in columns], ensure_ascii=True)
    return hashlib.sha256(text.encode() + np.ascontiguousarray(table.score, dtype="<f8").tobytes()).hexdigest()


def write_threshold(path: Path, threshold: Threshold) -> None:
    """Write the threshold as JSON, atomically."""
    write_json(path, asdict(threshold))


def read_threshold(path: Path) -> Threshold:
    """Read a threshold. Raises ManifestError when the file is missing or not one."""
    try:
        return Threshold(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ManifestError(f"{path}: not a threshold ({error}); run 'listenwell calibrate' to choose one.") from error
