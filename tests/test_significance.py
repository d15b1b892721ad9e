"""Tests beside the primary comparison: against statsmodels, hand-worked tables, and simulated error rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from listenwell.evaluate.comparison import delong, holm, mcnemar_exact
from listenwell.evaluate.metrics import roc_auc


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_statsmodels(clips):
    a, b = (np.array(column) for column in zip(*clips, strict=True))
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    found = mcnemar_exact(a, b)
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_holm_equals_statsmodels():
    rng = np.random.default_rng(0)
    for n in range(1, 13):
        p_values = np.round(rng.random(n) ** 3, 2)
        assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])


def two_scores(rng, n=60, gain=0.0):
    is_speech = np.arange(n) % 2 == 0
    shared = rng.normal(size=n) + 1.5 * is_speech
    a, b = (shared + rng.normal(size=n) for _ in range(2))
    return a + gain * is_speech, b, is_speech


def test_delong_equals_the_covariances_written_out():
    a, b, is_speech = two_scores(np.random.default_rng(0))
    kernels = []
    for score in (a, b):
        ahead = np.subtract.outer(score[is_speech], score[~is_speech])
        kernels.append((ahead > 0) + 0.5 * (ahead == 0))
    by_speech = np.cov([kernel.mean(axis=1) for kernel in kernels])
    by_other = np.cov([kernel.mean(axis=0) for kernel in kernels])
    contrast = np.array([1, -1])
    variance = contrast @ (by_speech + by_other) @ contrast / 30
    z = (roc_auc(a, is_speech) - roc_auc(b, is_speech)) / np.sqrt(variance)
    found = delong(a, b, is_speech)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert (found.n, found.assumes) == (60, "independent clips")
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)


def test_delong_of_always_right_against_always_wrong_has_no_spread_and_leaves_no_doubt():
    is_speech = np.array([True, True, False, False])
    found = delong(is_speech * 1.0, -1.0 * is_speech, is_speech)
    assert (found.difference, found.p_value, found.low, found.high, found.n) == (1.0, 0.0, None, None, 4)
