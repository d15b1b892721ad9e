"""Thresholds judged on groups that did not choose them, on tables worked out by hand."""

import numpy as np

from listenwell.evaluate.calibration import cross_fitted_balanced_accuracy, cross_fitted_decisions
from listenwell.evaluate.scores import ScoreTable


def table(scores: dict[str, float], speech: str) -> ScoreTable:
    """One clip a group; groups in `speech` are speakers."""
    n = len(scores)
    return ScoreTable(
        clip_id=np.array([f"clip {group}" for group in scores]),
        group=np.array(list(scores)),
        label=np.array(["SPEECH" if group in speech else "NONSPEECH" for group in scores]),
        score=np.array(list(scores.values())),
        duration_ms=np.full(n, 500.0),
        snr_db=np.full(n, np.nan),
        condition=np.full(n, "clean"),
    )


def test_each_fold_is_decided_at_the_threshold_that_the_others_choose():
    # folds in the order of names: a, x and b, y; b and y choose 3 for a and x, these choose 1 for b and y
    found = cross_fitted_decisions(table({"b": 5.0, "x": 0.0, "y": 1.5, "a": 2.0}, "ab"), n_folds=2)
    assert found.tolist() == [True, False, True, False]
    assert cross_fitted_balanced_accuracy(table({"b": 5.0, "x": 0.0, "y": 1.5, "a": 2.0}, "ab"), n_folds=2) == 0.5


def test_of_three_folds_the_other_two_choose():
    # a and x at 2, which b, c, y and z choose; b and y at 6.5, the widest best gap of the rest; c and z at 5
    made = table({"a": 9.0, "b": 6.0, "c": 3.0, "x": 4.0, "y": 1.0, "z": 0.0}, "abc")
    assert cross_fitted_decisions(made, n_folds=3).tolist() == [True, False, False, True, False, False]
