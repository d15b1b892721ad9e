"""The transfer of a threshold: shift and regret against the test's own best threshold, and the half-logit criterion."""

from dataclasses import replace

import numpy as np
import pytest
from made_scores import make_scores
from scipy.special import expit

from listenwell.evaluate.calibration import best_threshold, choose_threshold, parse_criterion
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.predictions import Predictions
from listenwell.evaluate.transfer import measure_regret, measure_transfer

DEV = make_scores(n_groups=100, seed=1)
TEST = make_scores(n_groups=100, seed=2)


def test_shift_and_regret_are_those_against_the_oracle():
    threshold = choose_threshold(DEV)
    found = measure_transfer(threshold, TEST, seed=0)
    oracle, reached = best_threshold(TEST.score, TEST.is_speech)
    assert found.shift.value == pytest.approx(threshold.value - oracle)
    ours = balanced_accuracy(decide(TEST.score, threshold.value), TEST.is_speech)
    # a threshold fitted to these very clips does better than one fitted to the other groups
    assert found.regret.value <= reached - ours
    assert found.regret.value == pytest.approx(reached - ours, abs=0.02)
    for metric in (found.shift, found.regret):
        assert metric.low <= metric.value <= metric.high


def test_the_regret_of_a_perfect_threshold_excludes_0_in_few_studies():
    # two normal classes, the best threshold lies halfway: 0
    excluded = sum(measure_regret(0.0, make_scores(n_groups=n, seed=n), 0).low > 0 for n in range(5, 35))
    assert excluded <= 2


def test_one_group_of_a_class_tells_nothing_of_the_regret():
    alone = make_scores(n_groups=1, seed=1)
    found = measure_regret(0.3, alone, 0)
    assert (found.value, found.low, found.high) == (0.0, -1.0, 1.0)


def test_scores_that_moved_by_two_logits_are_found_and_judged_not_met():
    found = measure_transfer(choose_threshold(DEV), replace(TEST, score=TEST.score + 2.0), seed=0)
    assert found.shift.value == pytest.approx(-2.0, abs=0.7)
    assert found.verdict.outcome == "not met"
    assert found.regret.low > 0


def test_a_threshold_that_fits_a_steep_curve_is_met():
    steep = [replace(table, score=0.1 * table.score) for table in (DEV, TEST)]
    assert measure_transfer(choose_threshold(steep[0]), steep[1], seed=0).verdict.outcome == "met"


def test_a_few_clips_cannot_tell():
    found = measure_transfer(choose_threshold(DEV), make_scores(n_groups=6, n_each=2, gap=0.3), seed=0)
    assert found.verdict.outcome == "cannot tell"
    assert "only 12 groups" in found.shift.note


def test_the_shift_of_probabilities_is_measured_in_logits():
    def as_probabilities(table):
        return replace(table, score=expit(table.score))

    threshold = choose_threshold(as_probabilities(DEV))
    test = Predictions(as_probabilities(TEST), "probability")
    found = measure_transfer(threshold, test.table, 0, test.to_logit)
    in_logits = measure_transfer(choose_threshold(DEV), TEST, 0)
    assert found.shift.value == pytest.approx(in_logits.shift.value, abs=0.05)


def test_the_oracle_serves_the_criterion_that_chose_the_threshold():
    criterion = parse_criterion("target_recall=0.9")
    found = measure_transfer(choose_threshold(DEV, criterion), TEST, seed=0)
    assert found.oracle == best_threshold(TEST.score, TEST.is_speech, criterion)[0]
    assert np.isfinite(found.shift.low)
