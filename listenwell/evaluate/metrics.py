"""Measures of a detector as pure functions of arrays.

SPEECH is the positive class. `score` (n,) is the higher the more like speech; `says_speech` (n,) is the decision
score >= threshold; `is_speech` (n,) is the truth. A measure of a class that has no clips is undefined and raises
ManifestError. Ranking measures are read off an operating curve: false-alarm and hit rates (..., k + 1) from "nothing
is speech" to "everything is speech", one point per distinct score; leading axes are resamples. Intervals are in
`listenwell.evaluate.intervals` and `ranking`, measures of probabilities in `probabilities`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import ManifestError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def decide(score: Floats, threshold: float) -> Bools:
    """Return True (SPEECH) where score >= threshold, shape (n,)."""
    return np.asarray(score, dtype=np.float64) >= threshold


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
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    tpr = np.append(0.0, np.cumsum(truth)[last_of_tie] / truth.sum())
    fpr = np.append(0.0, np.cumsum(~truth)[last_of_tie] / (~truth).sum())
    return fpr, tpr


@dataclass(frozen=True, slots=True)
class Costs:
    """What a miss and a false alarm cost, and how often the clips to come are speech."""

    miss: float = 1.0
    false_alarm: float = 1.0
    speech_prior: float = 0.5

    def expected(self, fpr: Floats, tpr: Floats) -> Floats:
        """Expected cost per clip, of any shape."""
        misses = self.miss * self.speech_prior * (1.0 - tpr)
        return np.asarray(misses + self.false_alarm * (1.0 - self.speech_prior) * fpr)

    def blind(self) -> float:
        """Cost of the better of calling everything and nothing speech."""
        return min(self.miss * self.speech_prior, self.false_alarm * (1.0 - self.speech_prior))


EQUAL_COSTS = Costs()


def equal_error_of(fpr: Floats, tpr: Floats) -> Floats:
    """Return the rate at which misses and false alarms are equal, points joined by straight lines; shape (...)."""
    gap = fpr - (1.0 - tpr)
    after = np.argmax(gap >= 0, axis=-1)[..., None]
    before = after - 1
    left, right = (np.take_along_axis(gap, at, -1) for at in (before, after))
    start, end = (np.take_along_axis(fpr, at, -1) for at in (before, after))
    return np.asarray((start + -left / (right - left) * (end - start))[..., 0])


def least_cost_of(fpr: Floats, tpr: Floats, costs: Costs) -> Floats:
    """Return the least expected cost of each curve as a share of the cost without listening (NIST's minDCF)."""
    return np.asarray(costs.expected(fpr, tpr).min(axis=-1) / costs.blind())


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
