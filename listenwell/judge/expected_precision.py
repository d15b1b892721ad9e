"""How exactly a test set will let recall, specificity and balanced accuracy be known, before anything is scored.

The intervals are those of listenwell.evaluate.intervals (Wilson, design effect, t; MOVER for balanced accuracy), with
PLANNING_ICC as the intra-class correlation: no errors are known yet.
"""

from collections import Counter
from collections.abc import Sequence
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from listenwell.data.clip import LABELS, Label
from listenwell.data.test_set import ChosenClip, Precision
from listenwell.evaluate.intervals import CONFIDENCE, PLANNING_ICC, wilson

EXPECTED_SHARES = (0.75, 0.85, 0.95)
Sizes = NDArray[np.int_]
MEASURES: dict[Label, str] = {"SPEECH": "recall", "NONSPEECH": "specificity"}


def expect_precision(chosen: Sequence[ChosenClip]) -> list[Precision]:
    """Return how exactly recall, specificity and balanced accuracy can be known from these clips.

    The intervals are those of listenwell.evaluate.intervals (Wilson, design effect, t; MOVER for balanced accuracy)
    with PLANNING_ICC as the intra-class correlation, since no errors are known yet.
    """
    sizes = {
        label: np.array(list(Counter(each.clip.group for each in chosen if each.clip.label == label).values()))
        for label in LABELS
    }
    halves = [
        Precision(MEASURES[label], int(of.sum()), of.size, PLANNING_ICC, _effective_n(of), tuple(_half_widths(of)))
        for label, of in sizes.items()
    ]
    both = tuple(
        (share, hypot(speech, nonspeech) / 2)
        for (share, speech), (_, nonspeech) in zip(halves[0].half_widths, halves[1].half_widths, strict=True)
    )
    everything = np.concatenate(list(sizes.values()))
    n_clips, n_groups = int(everything.sum()), everything.size
    return [*halves, Precision("balanced accuracy", n_clips, n_groups, PLANNING_ICC, _effective_n(everything), both)]


def _effective_n(sizes: Sizes) -> float:
    """Return the clips divided by the design effect of groups of these sizes."""
    mean_size = float(np.square(sizes).sum() / sizes.sum())
    return float(sizes.sum() / (1.0 + (mean_size - 1.0) * PLANNING_ICC))


def _half_widths(sizes: Sizes) -> list[tuple[float, float]]:
    """Return (share, half-width) for every expected share; one group says nothing about others: 0.5."""
    if sizes.size == 1:
        return [(share, 0.5) for share in EXPECTED_SHARES]
    quantile = float(stdtrit(sizes.size - 1, 0.5 + CONFIDENCE / 2))
    bounds = [(share, *wilson(share, _effective_n(sizes), quantile)) for share in EXPECTED_SHARES]
    return [(share, (high - low) / 2) for share, low, high in bounds]
