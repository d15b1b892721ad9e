"""Intervals: known values, properties, and simulated coverage at the sizes studies have."""

import numpy as np
import pytest
from made_scores import equal_error_rate, min_dcf
from scipy import stats
from scipy.special import expit, logit

from listenwell.evaluate.intervals import (
    balanced_accuracy_interval,
    group_scores,
    mean_over_folds,
    proportion,
    resample_curves,
    resample_groups,
)
from listenwell.evaluate.metrics import Costs, equal_error_of, roc_auc
from listenwell.evaluate.ranking import auc_metric, ranking_metrics


def correlated_clips(rng, n_groups, n_each, share, icc):
    """Right/wrong outcomes whose share differs by group (beta-binomial), and the groups; arrays (n,)."""
    spread = (1 - icc) / icc
    shares = rng.beta(share * spread, (1 - share) * spread, n_groups)
    group = np.repeat([f"g{i}" for i in range(n_groups)], n_each)
    return rng.random(n_groups * n_each) < np.repeat(shares, n_each), group


@pytest.mark.slow
@pytest.mark.parametrize("n_folds", [5, 10, 16])
@pytest.mark.parametrize(("share", "icc"), [(0.75, 0.1), (0.85, 0.3), (0.95, 0.3)])
def test_the_mean_of_few_folds_is_covered_19_times_in_20(n_folds, share, icc):
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(800):
        rights, _ = correlated_clips(rng, n_folds, 10, share, icc)
        values = rights.reshape(n_folds, 10).mean(axis=1)
        metric = mean_over_folds("balanced_accuracy", values, np.full(n_folds, 10))
        covered += metric.low <= share <= metric.high
    assert covered / 800 > 0.925


def test_folds_that_are_all_right_do_not_look_certain_and_one_fold_tells_nothing():
    perfect = mean_over_folds("x", np.ones(8), np.full(8, 6))
    assert (perfect.value, perfect.high, perfect.n, perfect.n_groups) == (1.0, 1.0, 48, 8)
    assert 0.75 < perfect.low < 0.9
    alone = mean_over_folds("x", np.array([0.9]), np.array([6]))
    assert alone.method == "none"
    assert (alone.low, alone.high) == (0.0, 1.0)


def test_one_group_says_nothing():
    metric = proportion("recall", np.ones(50, bool), np.full(50, "anna"))
    assert (metric.low, metric.high) == (0.0, 1.0)
    assert "one group" in metric.note


def test_balanced_accuracy_intervals_cover_the_truth():
    rng, covered = np.random.default_rng(3), []
    is_speech = np.repeat([True, False], [50, 60])
    for _ in range(400):
        hits, speakers = correlated_clips(rng, 10, 5, 0.92, 0.3)
        rejections, sounds = correlated_clips(rng, 20, 3, 0.86, 0.3)
        group = np.concatenate([speakers, np.char.add("n", sounds)])
        metric = balanced_accuracy_interval(np.concatenate([hits, ~rejections]), is_speech, group)
        covered.append(metric.low <= 0.89 <= metric.high)
    assert 0.93 <= np.mean(covered) <= 0.995


def test_a_group_of_both_classes_is_noted():
    is_speech = np.array([True, True, False, False])
    metric = balanced_accuracy_interval(is_speech, is_speech, np.array(["a", "b", "a", "c"]))
    assert "1 groups hold both classes" in metric.note


def scored_groups(n_groups=20, n_each=4, seed=0):
    rng = np.random.default_rng(seed)
    is_speech = np.tile(np.repeat([True, False], n_each), n_groups)
    group = np.repeat([f"g{i}" for i in range(2 * n_groups)], n_each)
    score = rng.standard_normal(is_speech.size) + is_speech + np.repeat(rng.standard_normal(2 * n_groups), n_each)
    return score, is_speech, group


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def test_the_draws_are_a_function_of_their_seed():
    first, again, other = (by_name(ranking_metrics(*scored_groups(), seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["equal_error_rate"] != other["equal_error_rate"]


def test_ranking_measures_stand_in_their_intervals_with_their_exact_values():
    score, is_speech, group = scored_groups()
    found = by_name(ranking_metrics(score, is_speech, group, seed=0, costs=Costs(1, 5, 0.3)))
    assert found["roc_auc"].value == roc_auc(score, is_speech)
    assert found["equal_error_rate"].value == equal_error_rate(score, is_speech)
    assert found["min_dcf"].value == pytest.approx(min_dcf(score, is_speech, Costs(1, 5, 0.3)))
    for metric in found.values():
        assert 0 <= metric.low < metric.value < metric.high <= 1
    assert "a false alarm 5" in found["min_dcf"].note


def test_intervals_over_groups_are_wider_than_over_clips():
    score, is_speech, group = scored_groups()
    alone = np.array([f"clip{i}" for i in range(group.size)])
    for clustered, naive in zip(
        ranking_metrics(score, is_speech, group, 0), ranking_metrics(score, is_speech, alone, 0), strict=True
    ):
        assert clustered.high - clustered.low > 1.2 * (naive.high - naive.low)


def test_one_group_in_a_class_says_nothing():
    metric = auc_metric(*scored_groups(n_groups=1))
    assert (metric.low, metric.high) == (0.0, 1.0)
    assert "one group" in metric.note


def test_a_perfect_ranking_of_few_clips_is_not_certain():
    is_speech = np.repeat([True, False], 12)
    group = np.array([f"g{i // 2}" for i in range(24)])
    for metric in ranking_metrics(is_speech * 2.0, is_speech, group, seed=0)[:3]:
        assert metric.high - metric.low > 0.1


def test_equal_scores_everywhere_give_chance():
    is_speech = np.tile([True, False], 30)
    group = np.array([f"g{i // 2 * 2 + i % 2}" for i in range(60)])
    found = by_name(ranking_metrics(np.zeros(60), is_speech, group, seed=0))
    assert (found["roc_auc"].value, found["equal_error_rate"].value) == (0.5, 0.5)
    assert found["min_dcf"].value == 1.0


def test_auc_intervals_cover_the_truth():
    rng, covered = np.random.default_rng(5), []
    is_speech, group = np.repeat([True, False], 75), np.repeat(np.arange(30), 5)
    for _ in range(400):
        score = rng.normal(size=150) * 0.7**0.5 + np.repeat(rng.normal(size=30), 5) * 0.3**0.5 + is_speech * 1.812388
        metric = auc_metric(score, is_speech, group)
        covered.append(metric.low <= 0.9 <= metric.high)
    assert np.mean(covered) >= 0.93


def test_draws_keep_the_clips_of_a_class_and_spread_as_the_means_of_its_groups():
    counts = np.array([[5.0, 0.0]] * 8 + [[0.0, 3.0]] * 12)
    weights = np.concatenate(list(resample_groups(counts, 0, "a test", 4000, 500)))
    assert weights.shape == (4000, 20)
    assert weights[:, :8].sum(axis=1) == pytest.approx(8.0)
    assert weights[:, 8:].sum(axis=1) == pytest.approx(12.0)
    assert np.unique(weights[:, :8]) == pytest.approx(8 / 7 * np.arange(np.unique(weights[:, :8]).size))
    # the rescaled bootstrap of n - 1 draws: the spread of a mean is that of its standard error
    values = np.random.default_rng(0).normal(size=8)
    means = weights[:, :8] @ values / 8
    assert means.std() == pytest.approx(values.std(ddof=1) / np.sqrt(8), rel=0.04)


def test_levels_that_stand_for_several_scores_leave_the_drawn_curves_where_they_were():
    score, is_speech, group = scored_groups(n_groups=60)
    fine, coarse = (
        np.concatenate([equal_error_of(*rates) for rates in resample_curves(scores, 0, "a test")])
        for scores in (group_scores(score, is_speech, group, most_levels=n) for n in (2048, 100))
    )
    assert np.quantile(coarse, (0.025, 0.975)) == pytest.approx(np.quantile(fine, (0.025, 0.975)), abs=0.01)


def test_with_one_clip_a_group_the_interval_of_the_auc_is_delongs_on_the_logit_scale():
    rng = np.random.default_rng(3)
    is_speech = np.arange(200) < 80
    score = np.round(rng.normal(size=200) + is_speech, 1)  # with ties
    ahead = np.subtract.outer(score[is_speech], score[~is_speech])
    kernel = (ahead > 0) + 0.5 * (ahead == 0)
    auc = kernel.mean()
    error = np.hypot(stats.sem(kernel.mean(axis=1)), stats.sem(kernel.mean(axis=0)))
    ends = logit(auc) + np.array([-1, 1]) * stats.t.ppf(0.975, 79) * error / (auc * (1 - auc))
    metric = auc_metric(score, is_speech, np.arange(200))
    assert metric.value == pytest.approx(auc)
    assert (metric.low, metric.high) == pytest.approx(tuple(expit(ends)), abs=2e-3)
    assert metric.low <= expit(ends[0])
    assert metric.high >= expit(ends[1])
    assert (metric.n, metric.n_groups, metric.note) == (200, 200, "")
