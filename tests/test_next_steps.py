"""What the rules advise, and that they are silent where nothing carries an advice."""

import copy

import pytest
from made_results import make_results

from listenwell.report.next_steps import _more_training_speakers, find_next_steps
from listenwell.report.results import read_results
from listenwell.report.wording import MINUS


@pytest.fixture
def results():
    return copy.deepcopy(make_results())


def advice(results) -> str:
    return "\n".join(f"{step.advice} {step.evidence}" for step in find_next_steps(read_results(results)))


def set_metric(results, condition, name, value, low, high):
    for row in results["rows"]:
        if (row["method"], row["threshold"], row["condition"]) == ("fine-tuned", "calibrated", condition):
            for metric in row["metrics"]:
                if metric["name"] == name:
                    metric.update(value=value, low=low, high=high)


def evidence(**parts):
    return {"criteria": [], "transfer": {}, "errors": {}, **parts}


def test_errors_of_a_few_speakers_ask_for_more_speakers(results):
    groups = [{"group": f"g{i}", "label": "SPEECH", "n": 20, "n_wrong": n} for i, n in enumerate([9, 8, 1, 1, 1])]
    results["evidence"] = evidence(errors={"out_of_corpus": {"n": 100, "n_wrong": 20, "groups": groups}})
    assert "Add speakers like those that fail" in advice(results)
    assert "g0 (9 of 20), g1 (8 of 20)" in advice(results)
    spread = [{**group, "n_wrong": 2} for group in [*groups, *groups]]
    results["evidence"] = evidence(errors={"out_of_corpus": {"n": 200, "n_wrong": 20, "groups": spread}})
    assert "like those that fail" not in advice(results)


def test_a_threshold_that_moves_asks_for_calibration_on_the_spot(results):
    regret = {"value": 0.02, "low": 0.007, "high": 0.046}
    found = {"verdict": {"outcome": "not met", "sentence": "not met: threshold_shift +1.0"}, "regret": regret}
    results["evidence"] = evidence(transfer={"out_of_corpus": found})
    assert "Calibrate on a few labelled clips" in advice(results)
    found["verdict"]["outcome"] = "met"
    assert "Calibrate on" not in advice(results)


def test_a_condition_is_named_only_where_its_whole_interval_lies_below_the_clean_value(results):
    set_metric(results, "clean", "balanced_accuracy", 0.95, 0.93, 0.97)
    for condition in results["rows"]:
        if condition["condition"] != "clean":
            set_metric(results, condition["condition"], "balanced_accuracy", 0.94, 0.92, 0.96)
    assert "Train harder for" not in advice(results)
    set_metric(results, "100ms", "balanced_accuracy", 0.80, 0.75, 0.84)
    assert "Train harder for 100 ms" in advice(results)


def test_lopsided_decisions_are_named_with_both_rates(results):
    set_metric(results, "noisy", "recall", 0.8, 0.75, 0.85)
    set_metric(results, "noisy", "specificity", 0.99, 0.97, 1.0)
    assert "missed speech costs you more" in advice(results)
    set_metric(results, "noisy", "recall", 0.99, 0.97, 1.0)
    set_metric(results, "noisy", "specificity", 0.8, 0.75, 0.85)
    assert "false alarms cost you more" in advice(results)
    set_metric(results, "noisy", "specificity", 0.98, 0.96, 1.0)
    assert "cost" not in advice(results)


def test_what_is_not_decided_is_told_with_the_groups_that_would(results):
    results["evidence"] = evidence(
        criteria=[
            {"criterion": "clean balanced accuracy at least 0.75", "test_set": "out_of_corpus",
             "outcome": "cannot tell at this n", "sentence": "cannot tell", "groups_needed": 70, "clips_needed": 140}
        ]
    )  # fmt: skip
    assert "test with 70 groups" in advice(results)


def test_a_fit_that_was_best_at_its_end_may_train_longer(results):
    fit = results["fits"][0]
    fit["best_epoch"] = fit["history"][-1]["epoch"]
    assert "Train for more epochs" in advice(results)
    fit["best_epoch"] = 1
    assert "more epochs" not in advice(results)


def curve(*gains):
    """Three points, 6, 12 and 24 speakers; gains: of the last doubling, by condition."""
    points = [{"arm": arm, "n_speakers": n, "share": n / 24, "fits": []} for arm, n in
              (("speakers-0.25", 6), ("speakers-0.5", 12), ("final", 24))]  # fmt: skip
    rows = [
        {"arm": "final", "n_speakers": 24, "test_set": "out_of_corpus", "condition": condition,
         "gain": {"over": 12, "of_seeds": [difference] * 3, "difference": difference, "low": low, "high": high}}
        for condition, difference, low, high in gains
    ]  # fmt: skip
    return {"points": points, "rows": rows}


def advice_on(results, *gains) -> list[str]:
    """What the rule on training speakers says of a curve with these gains."""
    results["speaker_curve"] = curve(*gains)
    return [f"{step.advice} {step.evidence}" for step in _more_training_speakers(read_results(results))]


def test_speakers_are_asked_for_only_where_the_last_doubling_surely_gained(results):
    (said,) = advice_on(results, ("clean", 0.001, -0.01, 0.012), ("noisy", 0.03, 0.01, 0.05))
    assert said.startswith("Add training speakers: the last doubling still gained.")
    assert "from 12 to 24 speakers: noisy +0.030 [+0.010, +0.050] (3 draws of speakers)" in said
    assert advice_on(results, ("clean", 0.03, -0.01, 0.07)) == []


def test_more_speakers_are_said_not_to_help_only_where_every_interval_lies_below_next_to_nothing(results):
    (said,) = advice_on(results, ("clean", 0.001, -0.004, 0.006), ("noisy", -0.01, -0.02, 0.002))
    assert said.startswith("More training speakers of this kind will not help")
    assert f"clean +0.001 [{MINUS}0.004, +0.006]; noisy" in said
    assert advice_on(results, ("clean", 0.001, -0.004, 0.006), ("noisy", 0.0, -0.03, 0.03)) == []


def test_a_step_that_is_no_doubling_and_an_unknown_width_carry_no_advice_on_speakers(results):
    assert advice_on(results, ("clean", 0.0, -1.0, 1.0), ("noisy", 0.0, -1.0, 1.0)) == []
    results["speaker_curve"] = curve(("clean", 0.05, 0.02, 0.08))
    results["speaker_curve"]["rows"][0]["gain"]["over"] = 13
    assert list(_more_training_speakers(read_results(results))) == []
    results["speaker_curve"] = None
    assert list(_more_training_speakers(read_results(results))) == []
