"""Methods judged by condition and compared on the same clips, with p values corrected by family."""

from dataclasses import replace

import numpy as np
import pytest
from made_scores import make_scores, stack

from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.methods import (
    NOISY,
    JudgedMethod,
    compare_methods,
    decision_metrics,
    judge,
    versions,
)
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.ranking import ranking_metrics

OURS = make_scores(gap=3.0, seed=1)
THEIRS = replace(OURS, score=make_scores(gap=2.9, seed=2).score)


def test_an_opponent_is_met_at_both_of_its_thresholds_and_a_declared_family_is_corrected_apart():
    ours, theirs = JudgedMethod("ours", OURS, 0.0, 0.0), JudgedMethod("theirs", THEIRS, 9.0, 0.5)
    found = compare_methods({"test": [ours, theirs]}, lambda each: each.opponent_threshold == "calibrated", seed=3)
    assert [(each.opponent_threshold, each.is_primary) for each in found] == [("calibrated", True), ("default", False)]
    for each, threshold in zip(found, (0.5, 9.0), strict=True):
        assert (each.method, each.opponent, each.test_set, each.condition) == ("ours", "theirs", "test", "clean")
        decisions = decide(OURS.score, 0.0), decide(THEIRS.score, threshold)
        assert each.result == compare_balanced_accuracy(*decisions, OURS.is_speech, OURS.group, seed=3)
        # alone in its family, nothing is to be corrected
        assert each.p_adjusted == pytest.approx(each.result.p_value)
    assert found[1].outcome == "better"


def test_at_its_default_a_method_stands_with_the_scores_of_the_form_that_suits_it():
    in_two_forms = JudgedMethod("theirs", THEIRS, 0.5, 0.0, at_default=OURS)
    alone = {
        name: JudgedMethod("theirs", table, 0.5, 0.0) for name, table in (("default", OURS), ("calibrated", THEIRS))
    }
    for row in judge(in_two_forms, "test", seed=3):
        assert row == next(
            each for each in judge(alone[row.threshold], "test", seed=3) if each.threshold == row.threshold
        )
    found = compare_methods({"test": [JudgedMethod("ours", OURS, 0.0, 0.0), in_two_forms]}, lambda each: True, seed=3)
    says = decide(OURS.score, 0.0), decide(OURS.score, 0.5)
    assert found[1].result == compare_balanced_accuracy(*says, OURS.is_speech, OURS.group, seed=3)


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
    method = JudgedMethod("ours", OURS, 0.0, 1.5)
    rows = judge(method, "test", seed=7)
    assert [(row.threshold, row.threshold_value, row.condition) for row in rows] == [
        ("default", 0.0, "clean"),
        ("calibrated", 1.5, "clean"),
    ]
    for row in rows:
        decided = decide(OURS.score, row.threshold_value)
        assert list(row.metrics[:4]) == decision_metrics(decided, OURS.is_speech, OURS.group)
        assert list(row.metrics[4:]) == ranking_metrics(OURS.score, OURS.is_speech, OURS.group, 7)
