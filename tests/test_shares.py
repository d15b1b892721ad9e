"""Intervals of shares by group: known values, what one more error does, simulated coverage."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from listenwell.evaluate.shares import effective_n, kish_groups, share_bounds, spread_bounds, t_quantile, wilson

Z = 1.959963984540054


@given(st.integers(1, 300), st.data())
def test_wilson_equals_statsmodels(n, data):
    right = data.draw(st.integers(0, n))
    assert wilson(right / n, n, Z) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@given(rights=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(any), min_size=2, max_size=30))
def test_a_share_lies_in_its_interval_within_0_and_1(rights):
    right, wrong = np.array(rights, dtype=float).T
    low, high = share_bounds(right, right + wrong)
    assert 0 <= low <= right.sum() / (right + wrong).sum() <= high <= 1
    assert low < high
    mirrored = share_bounds(wrong, right + wrong)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=2e-3)


def test_clips_that_are_their_own_groups_have_the_wider_of_jeffreys_and_wilsons_interval():
    rights = np.repeat([1.0, 0.0], [90, 10])
    jeffreys = stats.beta.ppf([0.025, 0.975], 90.5, 10.5)
    # the spread between groups of one clip: p (1 - p) / 99, so 99 clips' worth
    by_spread = wilson(0.9, 99, t_quantile(100))
    low, high = share_bounds(rights, np.ones(100))
    assert low == pytest.approx(min(jeffreys[0], by_spread[0]), abs=5e-4)
    assert high == pytest.approx(max(jeffreys[1], by_spread[1]), abs=5e-4)


def test_the_posterior_is_that_of_numerical_integration():
    rights, sizes = np.array([5.0, 4, 5, 3, 5, 9]), np.array([5.0, 5, 5, 3, 5, 9])

    def density(share):
        def given_icc(icc):
            strength = (1 - icc) / icc
            return np.prod(stats.betabinom.pmf(rights, sizes, share * strength, (1 - share) * strength))

        return integrate.quad(given_icc, 1e-6, 1 - 1e-6, limit=100)[0] / np.sqrt(share * (1 - share))

    total = integrate.quad(density, 0, 1)[0]
    low, _ = share_bounds(rights, sizes)
    assert low < spread_bounds(rights, sizes)[0]
    assert integrate.quad(density, 0, low)[0] / total == pytest.approx(0.025, abs=1e-3)


@pytest.mark.parametrize(("n_groups", "n_each"), [(5, 5), (10, 3), (3, 9)])
def test_in_equal_groups_one_more_error_wherever_never_raises_the_lower_bound(n_groups, n_each):
    sizes = np.full(n_groups, float(n_each))
    patterns = combinations_with_replacement(range(n_each + 1), n_groups)
    low = {errors: share_bounds(sizes - errors, sizes)[0] for errors in patterns}
    for errors, bound in low.items():
        for at in range(n_groups):
            more = list(errors)
            more[at] += 1
            after = low.get(tuple(sorted(more)))
            assert after is None or after <= bound + 2e-4


def test_nine_errors_in_nine_groups_of_ten_and_one_more_in_a_tenth():
    rights = np.full(40, 10.0)
    rights[:9] -= 1
    nine = share_bounds(rights, np.full(40, 10.0))
    rights[9] -= 1
    ten = share_bounds(rights, np.full(40, 10.0))
    assert ten[0] <= nine[0]
    assert ten[1] <= nine[1]


def test_spread_bounds_take_the_variance_over_groups_and_no_more_than_the_clips():
    rights, sizes = np.array([5.0, 1, 3, 0, 2]), np.array([5.0, 4, 4, 3, 6])
    share, n = rights.sum() / sizes.sum(), sizes.sum()
    variance = 5 / 4 * np.sum((rights - share * sizes) ** 2) / n**2
    assert spread_bounds(rights, sizes) == pytest.approx(wilson(share, share * (1 - share) / variance, t_quantile(5)))
    alike = np.full(5, 2.0)
    assert spread_bounds(alike, 2 * alike) == pytest.approx(wilson(0.5, 20, t_quantile(5)))


def test_unequal_groups_are_worth_fewer():
    assert kish_groups(np.full(7, 3.0)) == pytest.approx(7)
    assert kish_groups(np.array([30.0, 1, 1])) == pytest.approx(32**2 / 902)
    assert effective_n(np.full(10, 5.0), 0.3) == pytest.approx(50 / 2.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_groups", "largest", "share", "icc"),
    [(5, 5, 0.95, 0.3), (10, 40, 0.9, 0.5), (10, 5, 0.98, 0.1), (20, 40, 0.85, 0.3), (40, 5, 0.98, 0.3)],
)
def test_the_intervals_cover_the_truth_in_unequal_groups(n_groups, largest, share, icc):
    rng, covered = np.random.default_rng(7), 0
    spread = (1 - icc) / icc
    for _ in range(600):
        sizes = rng.integers(1, largest + 1, n_groups)
        rights = rng.binomial(sizes, rng.beta(share * spread, (1 - share) * spread, n_groups))
        low, high = share_bounds(rights.astype(float), sizes.astype(float))
        covered += low <= share <= high
    assert covered / 600 >= 0.93


@pytest.mark.slow
def test_a_tenth_of_hard_groups_is_covered():
    rng, covered = np.random.default_rng(8), 0
    for _ in range(500):
        sizes = rng.integers(1, 41, 40)
        rights = rng.binomial(sizes, np.where(rng.random(40) < 0.1, 0.4, 0.955))
        low, high = share_bounds(rights.astype(float), sizes.astype(float))
        covered += low <= 0.1 * 0.4 + 0.9 * 0.955 <= high
    assert covered / 500 >= 0.92
