"""Methods judged by condition and compared at the better of their thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from made_scores import make_scores, stack

from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.methods import NOISY, JudgedMethod, compare, decision_metrics, judge, versions
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.ranking import ranking_metrics

OURS = make_scores(gap=3.0, seed=1)
THEIRS = replace(OURS, score=make_scores(gap=2.9, seed=2).score)


def judged(name, table, default, calibrated):
    return JudgedMethod(name, table, default, replace(choose_threshold(table), value=calibrated))


@pytest.mark.parametrize(("default", "calibrated", "better"), [(0.0, 9.0, "default"), (9.0, 0.0, "calibrated")])
def test_an_opponent_stands_at_the_better_of_its_thresholds(default, calibrated, better):
    ours, theirs = judged("ours", OURS, 0.0, 0.0), judged("theirs", THEIRS, default, calibrated)
    (found,) = compare(ours, [theirs], "test", seed=3)
    assert (found.method, found.opponent, found.opponent_threshold) == ("ours", "theirs", better)
    assert (found.test_set, found.condition) == ("test", "clean")
    decisions = decide(OURS.score, 0.0), decide(THEIRS.score, 0.0)
    assert found.result == compare_balanced_accuracy(*decisions, OURS.is_speech, OURS.group, seed=3)


def test_a_table_is_cut_by_condition_and_what_has_an_snr_stands_together_as_well():
    noisy = [replace(OURS, snr_db=np.full(400, snr), condition=np.full(400, f"snr_{snr:g}")) for snr in (0.0, 5.0)]
    found = versions(stack(OURS, *noisy))
    assert {name: np.unique(part.condition).tolist() for name, part in found.items()} == {
        "clean": ["clean"],
        "snr_0": ["snr_0"],
        "snr_5": ["snr_5"],
        NOISY: ["snr_0", "snr_5"],
    }
    assert [len(part) for part in found.values()] == [400, 400, 400, 800]


def test_a_method_is_judged_at_both_thresholds_and_ranked_with_the_seed():
    method = judged("ours", OURS, 0.0, 1.5)
    rows = judge(method, "test", seed=7)
    assert [(row.threshold, row.threshold_value, row.condition) for row in rows] == [
        ("default", 0.0, "clean"),
        ("calibrated", 1.5, "clean"),
    ]
    for row in rows:
        decided = decide(OURS.score, row.threshold_value)
        assert list(row.metrics[:4]) == decision_metrics(decided, OURS.is_speech, OURS.group)
        assert list(row.metrics[4:]) == ranking_metrics(OURS.score, OURS.is_speech, OURS.group, 7)
