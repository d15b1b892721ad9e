"""Measures of a detector as pure functions of arrays.

SPEECH is the positive class. `score` (n,) is the higher the more like speech; `says_speech` (n,) is the decision
score >= threshold; `is_speech` (n,) is the truth. A measure of a class that has no clips is undefined and raises
ManifestError. Intervals are in `listenwell.evaluate.intervals`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from listenwell.errors import ManifestError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def decide(score: Floats, threshold: float) -> Bools:
    """Return True (SPEECH) where score >= threshold, shape (n,)."""
    return np.asarray(score, dtype=np.float64) >= threshold


def accuracy(says_speech: Bools, is_speech: Bools) -> float:
    """Share of right decisions."""
    return float(np.mean(says_speech == is_speech))


def recall(says_speech: Bools, is_speech: Bools) -> float:
    """Share of the speech clips called speech (sensitivity, 1 - miss rate)."""
    require_classes(is_speech, "recall", speech=True, nonspeech=False)
    return float(np.mean(says_speech[is_speech]))


def specificity(says_speech: Bools, is_speech: Bools) -> float:
    """Share of the non-speech clips called non-speech (1 - false-alarm rate)."""
    require_classes(is_speech, "specificity", speech=False, nonspeech=True)
    return float(np.mean(~says_speech[~is_speech]))


def balanced_accuracy(says_speech: Bools, is_speech: Bools) -> float:
    """(recall + specificity) / 2, so that neither class counts more for having more clips."""
    return (recall(says_speech, is_speech) + specificity(says_speech, is_speech)) / 2


def precision(says_speech: Bools, is_speech: Bools) -> float:
    """Share of the clips called speech that are speech; NaN when none is called so. Depends on the mix of classes."""
    return float(np.mean(is_speech[says_speech])) if says_speech.any() else float("nan")


def roc_auc(score: Floats, is_speech: Bools) -> float:
    """Probability that a speech clip scores above a non-speech clip, ties counting one half.

    The Mann-Whitney form of the area under the ROC curve (Hanley & McNeil 1982, Radiology 143:29).
    """
    require_classes(is_speech, "AUC")
    positive, negative = np.asarray(score)[is_speech], np.sort(np.asarray(score)[~is_speech])
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2.0 * positive.size * negative.size))


def roc_points(score: Floats, is_speech: Bools) -> tuple[Floats, Floats]:
    """Return false-alarm and hit rates, each (k + 1,), from "nothing is speech" to "everything is speech".

    One point per distinct score, k in all; clips with equal scores change sides together.
    """
    require_classes(is_speech, "ROC")
    order = np.argsort(-np.asarray(score), kind="stable")
    ranked, truth = np.asarray(score)[order], is_speech[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    hits = np.append(0.0, np.cumsum(truth)[last_of_tie] / truth.sum())
    false_alarms = np.append(0.0, np.cumsum(~truth)[last_of_tie] / (~truth).sum())
    return false_alarms, hits


def equal_error_rate(score: Floats, is_speech: Bools) -> float:
    """Rate at which misses and false alarms are equal, the ROC points joined by straight lines."""
    false_alarms, hits = roc_points(score, is_speech)
    gap = false_alarms - (1.0 - hits)
    after = int(np.argmax(gap >= 0))
    before = after - 1
    step = -gap[before] / (gap[after] - gap[before])
    return float(false_alarms[before] + step * (false_alarms[after] - false_alarms[before]))


def d_prime(says_speech: Bools, is_speech: Bools) -> float:
    """Sensitivity index z(hit rate) - z(false-alarm rate), z the normal quantile.

    Rates are (count + 0.5) / (n + 1), so that none is 0 or 1 (Hautus 1995, Behav. Res. Methods 27:46).
    """
    require_classes(is_speech, "d'")
    hit_rate = (np.sum(says_speech & is_speech) + 0.5) / (np.sum(is_speech) + 1.0)
    false_alarm_rate = (np.sum(says_speech & ~is_speech) + 0.5) / (np.sum(~is_speech) + 1.0)
    return float(ndtri(hit_rate) - ndtri(false_alarm_rate))


def require_classes(is_speech: Bools, measure: str, *, speech: bool = True, nonspeech: bool = True) -> None:
    """Raise ManifestError when a class that `measure` needs has no clips."""
    for needed, present, label in (
        (speech, is_speech.any(), "SPEECH"),
        (nonspeech, (~is_speech).any(), "NONSPEECH"),
    ):
        if needed and not present:
            raise ManifestError(
                f"{measure}: none of the {is_speech.size} clips is {label}, so it is undefined; add {label} clips."
            )
