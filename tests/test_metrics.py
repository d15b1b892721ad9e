"""Measures against scikit-learn, against hand-worked tables, and by their properties."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from made_scores import equal_error_rate, min_dcf
from scipy.interpolate import interp1d
from scipy.optimize import brentq

from listenwell.errors import ManifestError
from listenwell.evaluate.metrics import (
    Costs,
    balanced_accuracy,
    decide,
    recall,
    roc_auc,
    roc_points,
    specificity,
)

# Hand-worked: 4 speech, 3 hits; 6 non-speech, 2 false alarms.
TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
SAYS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)


@st.composite
def scored_clips(draw):
    """Scores with many ties, both classes present."""
    n = draw(st.integers(2, 40))
    score = np.array(draw(st.lists(st.integers(-6, 6), min_size=n, max_size=n)), dtype=np.float64) / 2
    truth = np.array([True, False, *draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))])
    return score, truth


def test_a_hand_worked_table():
    assert recall(SAYS, TRUTH) == 3 / 4
    assert specificity(SAYS, TRUTH) == 4 / 6
    assert balanced_accuracy(SAYS, TRUTH) == (3 / 4 + 4 / 6) / 2


@given(scored_clips())
def test_measures_equal_scikit_learn(clips):
    score, truth = clips
    says = decide(score, 0.0)
    assert balanced_accuracy(says, truth) == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, says))
    assert recall(says, truth) == pytest.approx(sklearn.metrics.recall_score(truth, says))
    assert roc_auc(score, truth) == pytest.approx(sklearn.metrics.roc_auc_score(truth, score))


@given(scored_clips())
def test_roc_points_equal_scikit_learn(clips):
    score, truth = clips
    expected_false_alarms, expected_hits, _ = sklearn.metrics.roc_curve(truth, score, drop_intermediate=False)
    false_alarms, hits = roc_points(score, truth)
    assert np.allclose(false_alarms, expected_false_alarms)
    assert np.allclose(hits, expected_hits)


def test_the_equal_error_rate_equals_the_root_on_scikit_learns_roc():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = np.append(rng.random(200) < 0.4, [True, False])
        score = rng.standard_normal(202) + truth
        false_alarms, hits, _ = sklearn.metrics.roc_curve(truth, score)
        expected = brentq(lambda x, f=false_alarms, h=hits: 1.0 - x - interp1d(f, h)(x), 0.0, 1.0)
        assert equal_error_rate(score, truth) == pytest.approx(expected, abs=1e-3)


@given(scored_clips(), st.floats(-5, 5))
def test_ranks_alone_decide_auc_and_eer(clips, shift):
    score, truth = clips
    moved = np.exp(score / 3) * 7 + shift
    assert roc_auc(moved, truth) == pytest.approx(roc_auc(score, truth))
    assert equal_error_rate(moved, truth) == pytest.approx(equal_error_rate(score, truth))


@pytest.mark.parametrize("measure", [balanced_accuracy, roc_auc, equal_error_rate])
def test_a_missing_class_is_an_error_that_names_it(measure):
    with pytest.raises(ManifestError, match="none of the 3 clips is NONSPEECH"):
        measure(np.array([True, True, False]), np.array([True, True, True]))


@given(scored_clips(), st.floats(0.1, 20), st.floats(0.1, 20), st.floats(0.05, 0.95))
def test_min_dcf_is_the_least_cost_of_any_threshold(clips, miss, false_alarm, prior):
    score, truth = clips
    costs = Costs(miss, false_alarm, prior)
    tried = [
        miss * prior * (1 - recall(says, truth)) + false_alarm * (1 - prior) * (1 - specificity(says, truth))
        for says in (decide(score, t) for t in np.arange(-3.25, 3.5, 0.5))
    ]
    assert min_dcf(score, truth, costs) == pytest.approx(min(tried) / costs.blind())
    assert min_dcf(score, truth, costs) <= 1 + 1e-12


def test_a_threshold_is_met_in_double_precision():
    score = np.array([0.1], dtype=np.float32)
    assert decide(score, float(score[0])).tolist() == [True]
    assert decide(score, float(score[0]) + 1e-9).tolist() == [False]
