"""Power: the groups asked for give the half-width and find the difference, and one fewer does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from listenwell.errors import ConfigError
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.power import (
    detectable_difference,
    groups_for_difference,
    groups_for_half_width,
    groups_to_tell,
    half_width_of,
    judge_criterion,
    judge_within,
    worth_of,
)


@given(st.floats(0.5, 0.98), st.floats(0.02, 0.3), st.integers(1, 20), st.floats(0, 1))
def test_the_groups_asked_for_are_the_fewest(share, half_width, per_group, icc):
    need = groups_for_half_width(share, half_width, per_group, icc)
    assert half_width_of(share, need.groups, per_group, icc) <= half_width
    assert need.groups == 2 or half_width_of(share, need.groups - 1, per_group, icc) > half_width
    assert need.clips == need.groups * per_group


def test_ten_speakers_of_five_clips_at_icc_03_are_worth_23():
    worth = worth_of("recall", np.repeat(np.arange(10), 5), 0.3, (0.85,))
    assert worth.effective_n == pytest.approx(50 / 2.2)
    assert worth.half_widths[0][1] == pytest.approx(half_width_of(0.85, 10, 5, 0.3))


def test_a_planned_difference_is_found_with_the_planned_probability():
    # Methods right alone on 10 % and 20 % of the clips: 15 + 15 points of discordance, 10 points apart.
    need = groups_for_difference(0.1, 0.3, clips_per_group=1, icc=0)
    rng, found = np.random.default_rng(0), 0
    k = need.groups
    for _ in range(2000):
        gains = rng.choice([1, -1, 0], p=[0.2, 0.1, 0.7], size=(2, k))
        error = np.sqrt(gains.var(axis=1, ddof=1).sum() / k) / 2
        found += gains.mean() / error > 1.97
    assert found / 2000 == pytest.approx(0.8, abs=0.04)
    assert detectable_difference(k, 0.3, 1, 0) <= 0.1 < detectable_difference(k - 1, 0.3, 1, 0)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (lambda: groups_for_half_width(0.85, 5, 5, 0.3), "half_width is 5; expected between 0 and 1"),
        (lambda: groups_for_half_width(0.85, 0.05, 0, 0.3), "clips_per_group is 0; expected 1 or more"),
        (lambda: groups_for_half_width(0.85, 0.05, 5, 1.5), "icc is 1.5; expected 0 to 1"),
        (lambda: groups_for_half_width(0.85, 1e-6, 1, 0.3), "not even 1,000,000 groups"),
        (lambda: groups_for_difference(0.2, 0.1, 5, 0.3), "cannot be 0.2 apart"),
    ],
)
def test_an_impossible_wish_is_refused(wish, sentence):
    with pytest.raises(ConfigError, match=sentence):
        wish()


def metric(value, low, high, n_groups=20):
    return Metric("balanced_accuracy", value, low, high, 5 * n_groups, n_groups, "made")


def test_a_criterion_is_judged_by_the_interval():
    assert judge_criterion(metric(0.85, 0.80, 0.9), 0.8).outcome == "met"
    assert judge_criterion(metric(0.70, 0.60, 0.79), 0.8).outcome == "not met"
    open_ = judge_criterion(metric(0.85, 0.75, 0.9), 0.8)
    assert open_.outcome == "cannot tell"
    assert "cannot tell at 100 scores of 20 groups" in open_.sentence
    assert "would tell" in open_.sentence


def test_a_value_on_the_target_is_never_told():
    verdict = judge_criterion(metric(0.8, 0.7, 0.9), 0.8)
    assert (verdict.outcome, verdict.groups_needed) == ("cannot tell", None)


def test_equivalence_is_shown_by_an_interval_within_the_margin():
    assert judge_within(metric(0.1, -0.3, 0.4), 0.5).outcome == "met"
    assert judge_within(metric(0.9, 0.6, 1.2), 0.5).outcome == "not met"
    assert judge_within(metric(-0.9, -1.2, -0.6), 0.5).outcome == "not met"
    assert judge_within(metric(0.1, -0.3, 0.6), 0.5).outcome == "cannot tell"
    assert judge_within(metric(0.0, -0.6, 0.2), 0.5).outcome == "cannot tell"


def test_an_end_of_the_interval_on_the_target_meets_at_least_and_does_not_miss_it():
    assert judge_criterion(metric(0.85, 0.8, 0.9), 0.8).outcome == "met"
    assert judge_criterion(metric(0.7, 0.6, 0.8), 0.8).outcome == "cannot tell"
    assert judge_within(metric(0.0, -0.5, 0.5), 0.5).outcome == "met"
    assert judge_within(metric(0.75, 0.5, 1.0), 0.5).outcome == "cannot tell"
    assert judge_within(metric(-0.75, -1.0, -0.5), 0.5).outcome == "cannot tell"


def test_the_open_side_of_the_interval_decides_how_many_groups_would_tell():
    # From a value 0.05 below the target it is the upper half, 0.1, that must shrink; the lower says nothing.
    below = judge_criterion(metric(0.75, 0.35, 0.85), 0.8)
    assert below.groups_needed == groups_to_tell(20, 0.85 - 0.75, 0.8 - 0.75)
    assert below.clips_needed == 5 * below.groups_needed
    above = judge_criterion(metric(0.85, 0.75, 1.0), 0.8)
    assert above.groups_needed == groups_to_tell(20, 0.85 - 0.75, 0.85 - 0.8)
    assert judge_within(metric(-0.25, -0.5, 0.5), 0.375).groups_needed is None


def test_with_so_many_groups_nine_studies_in_ten_tell():
    error, distance = 0.04, 0.05
    n_groups = groups_to_tell(20, error * stats.t.ppf(0.975, 19), distance)
    values = np.random.default_rng(0).normal(distance, error * np.sqrt(20), (4000, n_groups))
    half = stats.t.ppf(0.975, n_groups - 1) * stats.sem(values, axis=1)
    assert np.mean(values.mean(axis=1) - half > 0) == pytest.approx(0.9, abs=0.02)


def test_the_least_difference_is_that_of_the_formula_from_two_groups_on():
    for k, icc, power in ((2, 0.3, 0.8), (3, 0.0, 0.9), (40, 1.0, 0.5)):
        error = np.sqrt(0.3 * (1 + 4 * icc) / (2 * k * 5))
        quantiles = stats.t.ppf(0.975, k - 1) + stats.t.ppf(power, k - 1)
        assert detectable_difference(k, 0.3, 5, icc, power) == pytest.approx(quantiles * error)
    assert detectable_difference(1, 0.3, 5, 0.3) == float("inf")
