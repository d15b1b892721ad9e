"""Paired comparison by group: hand-worked cases, symmetry, exactness, and simulated error rates."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from listenwell.evaluate.comparison import (
    PairedDifference,
    compare_auc,
    compare_balanced_accuracy,
    compare_over_seeds,
    correct_together,
    holm,
    independent_difference,
    max_t,
    outcome_of,
    permutation_p_value,
)
from listenwell.evaluate.intervals import FEW_GROUPS, Metric
from listenwell.evaluate.metrics import balanced_accuracy

IS_SPEECH = np.repeat([True, False], [50, 60])
GROUP = np.array([f"s{i // 5}" for i in range(50)] + [f"n{i // 3}" for i in range(60)])


def two_methods(rng, share_a, share_b, spread=1.5):
    """Decisions of two methods, (n,) each, whose errors gather in the same groups; right with the given shares."""
    group_effect = {name: rng.normal(0, spread) for name in np.unique(GROUP)}
    effects = np.array([group_effect[name] for name in GROUP])
    clip_effect = rng.logistic(size=GROUP.size)
    return tuple(np.where(clip_effect < share + effects, IS_SPEECH, ~IS_SPEECH) for share in (share_a, share_b))


def test_the_difference_is_that_of_the_balanced_accuracies():
    a, b = two_methods(np.random.default_rng(0), 3.0, 2.0)
    found = compare_balanced_accuracy(a, b, IS_SPEECH, GROUP, seed=0)
    assert found.difference == pytest.approx(balanced_accuracy(a, IS_SPEECH) - balanced_accuracy(b, IS_SPEECH))
    assert found.low < found.difference < found.high
    assert (found.n, found.n_groups) == (110, 30)


def test_the_detectable_difference_is_found_in_four_studies_of_five():
    error = 0.03
    found = compare_balanced_accuracy(*two_methods(np.random.default_rng(0), 3.0, 2.0), IS_SPEECH, GROUP, seed=0)
    in_errors = stats.t.ppf(0.975, 9) + stats.t.ppf(0.8, 9)
    assert 0 < found.detectable / in_errors < found.high - found.low
    values = np.random.default_rng(1).normal(error * in_errors, error * np.sqrt(10), (4000, 10))
    told = values.mean(axis=1) > stats.t.ppf(0.975, 9) * stats.sem(values, axis=1)
    assert np.mean(told) == pytest.approx(0.8, abs=0.04)


def test_exchanging_the_methods_turns_the_sign():
    a, b = two_methods(np.random.default_rng(1), 3.0, 2.0)
    ab = compare_balanced_accuracy(a, b, IS_SPEECH, GROUP, seed=0)
    ba = compare_balanced_accuracy(b, a, IS_SPEECH, GROUP, seed=0)
    assert (ab.difference, ab.low, ab.high) == pytest.approx((-ba.difference, -ba.high, -ba.low))
    assert ab.p_value == ba.p_value


def test_a_method_does_not_differ_from_itself_and_the_note_says_why_that_is_no_proof():
    found = compare_balanced_accuracy(IS_SPEECH, IS_SPEECH, IS_SPEECH, GROUP, seed=0)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert "never differ" in found.note
    # Wilson's upper bound of 0: t^2 / (n + t^2), n = 50 and 60 clips, t of 9 and 19
    bounds = [2.2622**2 / (50 + 2.2622**2), 2.0930**2 / (60 + 2.0930**2)]
    assert (-found.low, found.high) == pytest.approx((np.hypot(*bounds) / 2,) * 2, abs=1e-4)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_the_exact_p_value_counts_all_sign_patterns(contributions):
    values = np.array(contributions, dtype=np.float64)
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=values.size)]
    assert permutation_p_value(values, seed=0) == pytest.approx(np.mean(np.array(sums) >= abs(values.sum())))


def test_the_random_p_value_is_near_the_exact_one():
    values = np.random.default_rng(4).normal(0.4, 1.0, 16)
    signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)
    assert permutation_p_value(values, seed=0) == pytest.approx(exact, abs=0.015)


def test_equal_methods_are_called_different_in_about_5_percent_of_studies():
    rng, wrong, covered = np.random.default_rng(9), 0, 0
    for study in range(300):
        first, second = two_methods(rng, 2.5, 2.5)
        independent, _ = two_methods(rng, 2.5, 2.5)
        b = np.where(rng.random(GROUP.size) < 0.5, second, independent)
        found = compare_balanced_accuracy(first, b, IS_SPEECH, GROUP, seed=study)
        wrong += found.p_value < 0.05
        covered += found.low <= 0 <= found.high
    assert wrong / 300 <= 0.08
    assert covered / 300 >= 0.92


def test_the_width_is_at_least_that_of_linearised_ratios_where_groups_differ_in_size():
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 9, 22)
    member = np.repeat(np.arange(22), sizes)
    is_speech = member < 9
    a, b = (np.where(rng.random(member.size) < share, is_speech, ~is_speech) for share in (0.95, 0.5))
    found = compare_balanced_accuracy(a, b, is_speech, member.astype(str), seed=0)
    gain, variance = (a == is_speech).astype(float) - (b == is_speech), 0.0
    for groups in (range(9), range(9, 22)):
        own = np.isin(member, groups)
        mean = gain[own].mean()
        residuals = np.array([gain[member == g].sum() - (member == g).sum() * mean for g in groups]) / own.sum()
        variance += len(groups) / (len(groups) - 1) * np.sum(residuals**2) / 4
    half = np.sqrt(variance) * stats.t.ppf(0.975, 8)
    assert found.difference - found.low >= half - 1e-12
    assert found.high - found.difference >= half - 1e-12
    assert found.high - found.low < 2.4 * half
    in_80_percent = half * (1 + stats.t.ppf(0.8, 8) / stats.t.ppf(0.975, 8))
    assert found.detectable == pytest.approx(in_80_percent, rel=1e-9)


def test_a_random_p_value_counts_the_observed_signs_once_and_its_draws_exactly():
    assert permutation_p_value(np.ones(60), seed=0) == 1 / 10_001
    assert permutation_p_value(np.tile([1.0, -1.0], 500), seed=0) == 1.0


@pytest.mark.parametrize(("n_groups", "note"), [(FEW_GROUPS, ""), (FEW_GROUPS - 1, "only 29 groups")])
def test_few_groups_are_called_rough(n_groups, note):
    group = np.repeat(np.arange(n_groups).astype(str), 2)
    is_speech = np.arange(group.size) < group.size // 4 * 2
    a = is_speech ^ (np.arange(group.size) % 5 == 0)
    found = compare_balanced_accuracy(a, is_speech, is_speech, group, seed=0)
    assert found.note.startswith(note)
    assert bool(found.note) == bool(note)


def test_the_corrected_p_values_are_those_of_the_largest_t_over_all_sign_patterns():
    table = np.array([[0.4, 0.3, 0.5, 0.2, 0.6], [0.1, -0.2, 0.3, 0.1, 0.0], [0.2, 0.2, -0.1, 0.4, 0.3]])
    t = table / np.linalg.norm(table, axis=1, keepdims=True)
    drawn = np.abs(np.array(list(itertools.product((-1, 1), repeat=5))) @ t.T)
    observed = np.abs(t.sum(axis=1))
    order = np.argsort(-observed)
    steps = [np.mean(drawn[:, order[k:]].max(axis=1) >= observed[order[k]] - 1e-12) for k in range(3)]
    expected = np.empty(3)
    expected[order] = np.maximum.accumulate(steps)
    assert max_t(table, seed=0) == pytest.approx(expected)


def test_differences_that_are_copies_of_one_another_cost_nothing_and_unlike_ones_do():
    one = {f"g{i}": 0.1 + 0.01 * i for i in range(10)}
    alone = permutation_p_value(np.array(list(one.values())), seed=0)
    assert correct_together([one, one, one], seed=0) == pytest.approx([alone] * 3)
    elsewhere = {f"h{i}": share for i, share in enumerate(one.values())}
    assert min(correct_together([one, elsewhere], seed=0)) > alone


def scored(rng, n_groups, n_each, gap, of_group):
    is_speech = np.repeat([True, False], n_groups * n_each)
    group = np.repeat(np.arange(2 * n_groups), n_each)
    return of_group[group] + rng.normal(size=group.size) + gap * is_speech, is_speech, group.astype(str)


def test_with_one_clip_a_group_the_difference_of_aucs_has_delongs_error():
    rng = np.random.default_rng(2)
    a, is_speech, group = scored(rng, 60, 1, 2.0, np.zeros(120))
    b = a + rng.normal(size=120)
    kernels = [np.subtract.outer(s[is_speech], s[~is_speech]) > 0 for s in (a, b)]
    gap = kernels[0].astype(float) - kernels[1]
    error = np.hypot(stats.sem(gap.mean(axis=1)), stats.sem(gap.mean(axis=0)))
    found = compare_auc(a, b, is_speech, group)
    assert found.difference == pytest.approx(gap.mean())
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 59) * error, rel=0.03)
    assert found.p_value == pytest.approx(2 * stats.t.sf(gap.mean() / error, 59), rel=0.1)


def test_alike_clips_of_few_groups_do_not_make_a_difference_of_aucs_certain():
    rng, wrong = np.random.default_rng(11), 0
    for _ in range(200):
        tables = [scored(rng, 8, 20, 1.5, rng.normal(size=16)) for _ in range(2)]
        wrong += compare_auc(tables[0][0], tables[1][0], tables[0][1], tables[0][2]).p_value < 0.05
    assert wrong / 200 <= 0.09
    same = compare_auc(tables[0][0], tables[0][0], tables[0][1], tables[0][2])
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert same.low < 0 < same.high


def test_seeds_are_pooled_and_their_spread_widens_the_interval():
    rng = np.random.default_rng(3)
    a, b = (np.stack([two_methods(rng, share, share)[0] for _ in range(3)]) for share in (3.0, 2.0))
    found = compare_over_seeds(a, b, IS_SPEECH, GROUP, seed=0)
    values = [[balanced_accuracy(says, IS_SPEECH) for says in of] for of in (a, b)]
    assert found.difference == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    v = [np.var(of, ddof=1) / 3 for of in values]
    seeds = stats.t.ppf(0.975, sum(v) ** 2 / (v[0] ** 2 / 2 + v[1] ** 2 / 2)) * np.sqrt(sum(v))
    assert found.difference - found.low > seeds
    assert found.note == ""
    alone = compare_over_seeds(a[:1], b, IS_SPEECH, GROUP, seed=0)
    assert "one seed says nothing" in alone.note


def test_one_seed_each_is_the_plain_comparison():
    a, b = two_methods(np.random.default_rng(1), 3.0, 2.0)
    plain = compare_balanced_accuracy(a, b, IS_SPEECH, GROUP, seed=0)
    pooled = compare_over_seeds(a[None], b[None], IS_SPEECH, GROUP, seed=0)
    assert (pooled.difference, pooled.low, pooled.high) == pytest.approx((plain.difference, plain.low, plain.high))


@pytest.mark.slow
def test_holm_equals_statsmodels():
    rng = np.random.default_rng(0)
    for n in range(1, 13):
        p_values = np.round(rng.random(n) ** 3, 2)
        assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])


@pytest.mark.parametrize(
    ("low", "high", "p_adjusted", "outcome"),
    [(0.01, 0.1, 0.04, "better"), (-0.1, -0.01, 0.04, "worse"), (0.0, 0.1, 0.04, "cannot tell"),
     (-0.1, 0.1, 0.04, "cannot tell"), (0.01, 0.1, 0.062, "cannot tell"), (0.0, 0.0, 1.0, "cannot tell")],
)  # fmt: skip
def test_only_the_interval_and_the_corrected_p_together_decide(low, high, p_adjusted, outcome):
    difference = PairedDifference((low + high) / 2, low, high, 0.01, 10, 4, "made")
    assert outcome_of(difference, p_adjusted) == outcome


def test_the_difference_of_two_tests_holds_what_either_leaves_open():
    known = Metric("balanced_accuracy", 0.95, 0.91, 0.98, 100, 20, "", "")
    foreign = Metric("balanced_accuracy", 0.90, 0.80, 0.94, 60, 12, "", "")
    gap = independent_difference(known, foreign)
    assert (gap.value, gap.n, gap.n_groups) == (pytest.approx(0.05), 160, 32)
    assert gap.low == pytest.approx(0.05 - np.hypot(0.04, 0.04))
    assert gap.high == pytest.approx(0.05 + np.hypot(0.03, 0.10))
