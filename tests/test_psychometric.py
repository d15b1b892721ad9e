"""Psychometric curves: crossing points found again, in their intervals, and never beyond what was tested."""

from math import log2

import numpy as np
import pytest
from made_scores import make_scores, stack
from scipy.optimize import minimize
from scipy.special import expit, logit

from listenwell.evaluate.psychometric import (
    FREE_RATES,
    _first_guess,
    _fit,
    fit_curve,
    levels_of,
)
from listenwell.evaluate.scores import ScoreTable

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)
N_GROUPS, N_EACH = 40, 5


def made_curve(levels, share_at, over="snr_db", seed=0) -> ScoreTable:
    """Speech and other clips, each found with probability share_at(level); scores are +1 (speech) and -1."""
    rng = np.random.default_rng(seed)
    tables = []
    for level in levels:
        base = make_scores(N_GROUPS, N_EACH)
        found = rng.random(len(base)) < share_at(level)
        score = np.where(found == base.is_speech, 1.0, -1.0)
        name = f"snr_{level:g}" if over == "snr_db" else f"{level:g}ms"
        snr_db = np.full(len(base), level if over == "snr_db" else np.nan)
        tables.append(
            ScoreTable(base.clip_id, base.group, base.label, score, base.duration_ms, snr_db, np.full(len(base), name))
        )
    return stack(*tables)


def rising(x, middle=0.0, scale=3.0, guess=0.5, lapse=0.02):
    return guess + (1 - guess - lapse) * expit((x - middle) / scale)


@pytest.mark.parametrize("measure", ["recall", "balanced_accuracy"])
def test_the_snr_at_75_percent_is_found(measure):
    curve = fit_curve(made_curve(SNRS_DB, rising), 0.0, "snr_db", measure, seed=0, n_draws=60)
    (point,) = curve.points
    true = 3.0 * logit((0.75 - 0.5) / 0.48)
    assert point.low < true < point.high
    assert point.value == pytest.approx(true, abs=2.0)
    assert point.low < point.value < point.high
    assert curve.levels == SNRS_DB
    assert curve.shares[-1] == pytest.approx(0.98, abs=0.05)


def test_the_duration_at_75_and_90_percent_is_found_on_a_logarithmic_axis():
    table = made_curve((20, 40, 80, 160, 320, 640), lambda ms: rising(log2(ms), middle=log2(80), scale=0.8), "duration")
    curve = fit_curve(table, 0.0, "duration_ms", "balanced_accuracy", seed=0, n_draws=200)
    for point, target in zip(curve.points, (0.75, 0.9), strict=True):
        true = 2 ** (log2(80) + 0.8 * logit((target - 0.5) / 0.48))
        assert point.target == target
        assert point.low < true < point.high
        assert point.value == pytest.approx(true, rel=0.3)
        assert f"{target:.0%} at" in point.sentence


def test_what_is_not_reached_is_not_given():
    curve = fit_curve(made_curve(SNRS_DB, lambda x: 0.6), 0.0, "snr_db", "recall", seed=0, n_draws=20)
    (point,) = curve.points
    assert (point.value, point.high) == (None, None)
    assert "75% is not reached in the range tested (-10 to 20 dB)" in point.sentence


def test_what_is_reached_at_once_is_said_so():
    curve = fit_curve(made_curve(SNRS_DB, lambda x: 0.97), 0.0, "snr_db", "recall", seed=0, n_draws=20)
    assert curve.points[0].value is None
    assert "reached at the lowest level tested" in curve.points[0].sentence


def test_an_end_of_an_interval_outside_the_range_is_named():
    table = made_curve(SNRS_DB, lambda x: rising(x, middle=17.0, scale=4.0, guess=0.5, lapse=0.1))
    (point,) = fit_curve(table, 0.0, "snr_db", "recall", seed=0, n_draws=60).points
    assert point.high is None
    assert "above 20" in point.sentence


def test_the_curve_is_a_function_of_its_seed():
    table = made_curve(SNRS_DB, rising)
    one, same, other = (fit_curve(table, 0.0, "snr_db", "recall", seed, 20) for seed in (0, 0, 1))
    assert one == same
    assert one.points[0].low != other.points[0].low


def test_durations_are_those_the_conditions_name():
    table = stack(make_scores(2, 1, condition="200ms"), make_scores(2, 1, condition="clean"))
    assert levels_of(table, "duration_ms") == pytest.approx([200.0] * 4 + [np.nan] * 4, nan_ok=True)


def test_the_curve_that_is_given_passes_its_crossing_point():
    curve = fit_curve(made_curve(SNRS_DB, rising), 0.0, "snr_db", "recall", seed=0, n_draws=5)
    rise = expit((curve.points[0].value - curve.middle) / curve.scale)
    assert curve.guess_rate + (1 - curve.lapse_rate - curve.guess_rate) * rise == pytest.approx(0.75)


def test_the_fit_has_the_greatest_likelihood():
    x, shares = np.array(SNRS_DB), np.array([0.12, 0.2, 0.55, 0.6, 0.9, 0.93])
    right, wrong = 50 * shares, 50 * (1 - shares)

    def loss(parameters):
        middle, scale, guess, upper = parameters
        if not (scale > 0.3 and 0 <= guess <= 1 and 0 < upper <= 1):
            return np.inf
        p = upper * (guess + (1 - guess) / (1 + np.exp(-(x - middle) / scale)))
        return -(right * np.log(p) + wrong * np.log(1 - p)).sum()

    fitted = _fit(x, shares, np.full(6, 50.0), _first_guess(x, shares), FREE_RATES)
    best = minimize(loss, [0.0, 4.0, 0.1, 0.95], method="Nelder-Mead", options={"maxiter": 20_000, "xatol": 1e-6})
    assert loss(fitted) == pytest.approx(best.fun, abs=1e-3)
