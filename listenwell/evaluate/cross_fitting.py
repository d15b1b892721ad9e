"""A threshold judged on groups that did not choose it, within one set of scores.

Choosing and judging on the same dev clips flatters every config, and the more of them are tried, the more. So groups
are dealt into folds; each fold is decided with the threshold that the other folds choose.
"""

import numpy as np

from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable

N_FOLDS = 5


def cross_fitted_balanced_accuracy(dev: ScoreTable, n_folds: int = N_FOLDS) -> float:
    """Balanced accuracy of `cross_fitted_decisions`. Raises ManifestError as choose_threshold."""
    return balanced_accuracy(cross_fitted_decisions(dev, n_folds), dev.is_speech)


def cross_fitted_decisions(dev: ScoreTable, n_folds: int = N_FOLDS) -> Bools:
    """Decisions (n,), each made with the threshold that other groups chose.

    A class with fewer groups than folds has fewer folds; groups are dealt in the order of their names.
    """
    fold_of: dict[str, int] = {}
    for is_speech in (True, False):
        groups = sorted(set(dev.group[dev.is_speech == is_speech].tolist()) - set(fold_of))
        fold_of |= {group: number % n_folds for number, group in enumerate(groups)}
    fold = np.array([fold_of[group] for group in dev.group.tolist()])
    decisions: Bools = np.zeros(len(dev), dtype=np.bool_)
    for number in np.unique(fold):
        held = fold == number
        decisions[held] = decide(dev.score[held], choose_threshold(dev.select(~held)).value)
    return decisions
