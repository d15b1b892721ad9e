"""Probabilities: maps against scikit-learn and statsmodels, losses against scikit-learn, calibration by simulation."""

import numpy as np
import pytest
import sklearn.metrics
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from made_scores import min_dcf
from scipy import stats
from scipy.special import expit

from listenwell.errors import ManifestError
from listenwell.evaluate.metrics import Costs
from listenwell.evaluate.probabilities import (
    best_ratios,
    brier_losses,
    calibrated_loss,
    choose_map,
    cllr,
    fit_platt,
    fit_temperature,
    log_likelihood_ratios,
    probability_metrics,
    reliability_table,
)

T_ENDS = np.array([-1.0, 0.0, 1.0])


def logistic_clips(n, slope, intercept, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 2, n)
    return score, rng.random(n) < expit(slope * score + intercept)


def test_platt_equals_a_logistic_regression_on_platts_targets():
    score, is_speech = logistic_clips(200, 1.0, 0.5)
    n_speech, n_other = is_speech.sum(), (~is_speech).sum()
    targets = np.where(is_speech, (n_speech + 1) / (n_speech + 2), 1 / (n_other + 2))
    expected = sm.GLM(targets, sm.add_constant(score), family=sm.families.Binomial()).fit().params
    found = fit_platt(score, is_speech)
    assert (found.intercept, found.slope) == pytest.approx(tuple(expected), abs=1e-4)


def test_the_temperature_is_that_which_made_the_scores_too_sure():
    score, is_speech = logistic_clips(20_000, 1.0, 0.0)
    found = fit_temperature(4.0 * score, is_speech)
    assert 1 / found.slope == pytest.approx(4.0, rel=0.05)
    assert found.intercept == 0.0


def test_separable_classes_give_finite_maps():
    is_speech = np.array([False, False, True, True])
    for fit in (fit_platt, fit_temperature):
        probability = fit(np.array([-2.0, -1.0, 1.0, 2.0]), is_speech).probabilities(np.array([-2.0, 2.0]))
        assert 0 < probability[0] < 0.5 < probability[1] < 1


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_scores_does_not_matter(scale):
    score, is_speech = logistic_clips(300, 1.0, 0.3)
    one, other = fit_platt(score, is_speech), fit_platt(score * scale, is_speech)
    assert other.probabilities(score * scale) == pytest.approx(one.probabilities(score), abs=1e-4)


def test_a_shift_and_a_scale_cost_no_calibrated_loss_and_a_reversed_ranking_knows_nothing():
    score, is_speech = logistic_clips(300, 1.0, 0.3)
    found = calibrated_loss(score, is_speech)
    own = fit_platt(score, is_speech).probabilities(score)
    assert found == pytest.approx(sklearn.metrics.log_loss(is_speech, own))
    assert calibrated_loss(0.2 * score + 5.0, is_speech) == pytest.approx(found, abs=1e-4)
    share = is_speech.mean()
    assert calibrated_loss(-score, is_speech) == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))


def test_equal_scores_get_the_share_of_speech():
    found = fit_platt(np.full(100, 3.0), np.arange(100) < 20)
    assert found.probabilities(np.array([3.0])) == pytest.approx([0.2], abs=0.02)


def test_one_class_gives_no_map():
    with pytest.raises(ManifestError, match="is NONSPEECH"):
        fit_platt(np.arange(3.0), np.ones(3, bool))


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=60))
def test_the_brier_score_equals_scikit_learns(clips):
    probability, is_speech = (np.array(column) for column in zip(*clips, strict=True))
    assert brier_losses(probability, is_speech).mean() == pytest.approx(
        sklearn.metrics.brier_score_loss(is_speech, probability, labels=[False, True], pos_label=True)
    )


def test_a_reliability_table_by_hand():
    probability = np.array([0.0, 0.05, 0.12, 0.18, 0.95, 1.0])
    is_speech = np.array([False, True, False, False, True, True])
    first, second, last = reliability_table(probability, is_speech, np.arange(6))
    assert (first.low, first.n, first.mean_probability, first.speech_share) == (0.0, 2, 0.025, 0.5)
    assert (second.low, second.n, second.speech_share) == (0.1, 2, 0.0)
    assert (last.high, last.n, last.speech_share) == (1.0, 2, 1.0)
    assert first.share_low < 0.5 < first.share_high


def test_with_one_clip_a_group_the_interval_of_a_loss_is_that_of_a_stratified_mean_on_the_log_scale():
    score, is_speech = logistic_clips(120, 1.0, 0.7)
    probability, alone = expit(score), np.arange(120)
    metric, losses = probability_metrics(probability, is_speech, alone)[0], (probability - is_speech) ** 2
    parts = [losses[is_speech], losses[~is_speech]]
    error = np.sqrt(sum(len(part) ** 2 * stats.sem(part) ** 2 for part in parts)) / 120
    half = stats.t.ppf(0.975, min(map(len, parts)) - 1) * error / losses.mean()  # delta method: sd of ln m = sd / m
    assert np.log([metric.low, metric.value, metric.high]) == pytest.approx(np.log(losses.mean()) + half * T_ENDS)
    assert (metric.n, metric.n_groups, metric.note) == (120, 120, "")


def test_losses_without_any_error_have_no_spread():
    is_speech = np.array([True, True, False, False])
    *losses, cost = probability_metrics(is_speech * 1.0, is_speech, np.arange(4))
    assert (cost.name, cost.value, cost.low) == ("act_dcf", 0.0, 0.0)
    for metric in losses:
        assert (metric.value, metric.low, metric.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-13)


def test_a_loss_of_few_groups_says_so():
    score, is_speech = logistic_clips(60, 1.0, 0.0)
    for group, note in (
        (np.arange(60) // 6, "only 10 groups, the interval is rough"),
        (np.zeros(60, int), "one group says nothing about other groups"),
    ):
        assert probability_metrics(expit(score), is_speech, group)[0].note == note


def test_cllr_is_one_bit_for_knowing_nothing_and_its_formula_else():
    is_speech = np.array([True, True, False])
    assert cllr(np.zeros(3), is_speech) == pytest.approx(1.0)
    ratios = np.array([2.0, -1.0, -3.0])
    misses = np.mean(np.log2(1 + np.exp(-ratios[:2])))
    assert cllr(ratios, is_speech) == pytest.approx((misses + np.log2(1 + np.exp(-3.0))) / 2)


def test_probabilities_at_the_mix_they_were_fitted_for_are_turned_into_ratios():
    probability = np.array([0.2, 0.8])
    assert log_likelihood_ratios(probability, 0.2) == pytest.approx([0.0, np.log(16.0)])


def test_min_cllr_is_that_of_the_convex_hull_and_no_monotone_map_does_better():
    score, is_speech = logistic_clips(400, 1.0, 0.3)
    found = {metric.name: metric for metric in probability_metrics(expit(score), is_speech, np.arange(400))}
    least = found["min_cllr"].value
    # three levels that can be counted by hand: shares of speech 1/4, 2/4 and 3/4 of 4 clips each
    counted = np.repeat([1.0, 2.0, 3.0], 4)
    truth = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0], dtype=bool)
    assert cllr(best_ratios(counted, truth), truth) == pytest.approx(
        cllr(np.log([1 / 3, 1, 3])[counted.astype(int) - 1], truth)
    )
    for slope, shift in ((1.0, 0.0), (0.5, 1.0), (3.0, -1.0)):
        assert least < cllr(slope * score + shift, is_speech)
    assert found["min_cllr"].low < least < found["min_cllr"].high < found["cllr"].high


def test_act_dcf_is_the_cost_of_what_the_probabilities_ask_for_and_no_less_than_the_best_threshold():
    score, is_speech = logistic_clips(400, 1.0, 0.3)
    costs = Costs(1.0, 10.0, 0.2)
    metrics = probability_metrics(expit(score - 1.0), is_speech, np.arange(400), 0.5, costs)
    found = next(metric for metric in metrics if metric.name == "act_dcf")
    says = expit(score - 1.0) * 0.2 * 1.0 >= (1.0 - expit(score - 1.0)) * 0.8 * 10.0
    misses, false_alarms = 1.0 - says[is_speech].mean(), says[~is_speech].mean()
    assert found.value == pytest.approx((0.2 * misses + 8.0 * false_alarms) / 0.2)
    assert found.low < found.value < found.high
    assert found.value >= min_dcf(score, is_speech, costs)


@pytest.mark.slow
def test_the_map_is_chosen_by_what_it_does_on_groups_it_did_not_see():
    rng = np.random.default_rng(0)
    is_speech = np.repeat([True, False], 300)
    group = np.arange(600) // 10
    good = rng.normal(size=600) * 1.5 + np.where(is_speech, 1.1, -1.1)  # log-likelihood ratios, nearly
    chosen, losses = choose_map(10 * good + 20, is_speech, group, seed=0)
    assert min(losses, key=losses.get) == "Platt"
    assert chosen.slope < 0.5
    few = np.r_[np.arange(0, 30), np.arange(300, 330)]
    _, losses = choose_map(good[few], is_speech[few], group[few], seed=0)
    assert set(losses) == {"log-odds", "temperature", "Platt"}
    single = choose_map(good, is_speech, np.where(is_speech, "a", "b"), seed=0)
    assert single == (fit_platt(good, is_speech), {})
