"""What the rules advise, and that they are silent where nothing carries an advice."""

import copy

import pytest
from made_results import make_results

from listenwell.report.next_steps import find_next_steps
from listenwell.report.results import read_results


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
