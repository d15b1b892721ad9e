"""The drawings say what the evidence says: groups, curves, probabilities, losses."""

import json
import re
from copy import deepcopy

import numpy as np
import pytest
from made_results import make_fit

from listenwell.evaluate.metrics import roc_auc
from listenwell.evaluate.scores import read_scores
from listenwell.report.arms import overfitting_sentence
from listenwell.report.figures.curves import detection_curves
from listenwell.report.figures.groups import MOST_SHOWN, group_plots, reliability_diagrams
from listenwell.report.figures.learning import learning_curves
from listenwell.report.results import read_results


@pytest.fixture
def results(finished_study):
    return deepcopy(json.loads(json.dumps(finished_study[1])))


def labels(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def many_groups(n: int) -> list[dict]:
    return [
        {"group": f"g{i}", "label": "SPEECH", "n": 5, "n_wrong": max(0, 3 - i), "right": min(1.0, 0.4 + 0.2 * i),
         "low": 0.1, "high": 1.0}
        for i in range(n)
    ]  # fmt: skip


def test_the_hardest_groups_stand_first_and_the_rest_is_counted(results):
    results["evidence"]["errors"]["test"]["groups"] = many_groups(MOST_SHOWN + 7)
    (drawing,) = group_plots(read_results(results))
    shown = [label for label in labels(drawing.svg) if label.startswith("g")]
    assert shown == [f"g{i}, n 5" for i in range(MOST_SHOWN)]
    assert "not shown 35 clips, 7 groups, none below 1.000" in drawing.caption


def test_with_few_groups_every_one_is_shown(results):
    (drawing,) = group_plots(read_results(results))
    groups = {each["group"] for each in results["evidence"]["errors"]["test"]["groups"]}
    assert {label.rsplit(", n ", 1)[0] for label in labels(drawing.svg) if ", n " in label} == groups
    assert "Every group is shown." in drawing.caption


def test_every_method_has_its_operating_curve_clean_and_in_noise(results):
    study = read_results(results)
    drawings = detection_curves(study)
    assert [drawing.caption.split(",")[0] for drawing in drawings] == [
        "ROC and DET on clean clips", "ROC and DET in noise",
    ]  # fmt: skip
    for drawing in drawings:
        for method in ("Base model, zero-shot", "Fine-tuned model", "WebRTC VAD"):
            assert any(label.startswith(f"{method}, AUC") for label in labels(drawing.svg))
        assert {"False-alarm rate (%)", "Miss rate (%)"} <= set(labels(drawing.svg))


def test_the_curves_in_the_evidence_are_those_of_the_scores(finished_study):
    config, results = finished_study
    for curve in results["evidence"]["operating_curves"]["test"]:
        table = read_scores(config.output / "scores" / f"{curve['method']}-test.csv")
        is_there = np.isfinite(table.snr_db) if curve["condition"] == "noisy" else table.condition == "clean"
        table = table.select(is_there)
        x = np.array(curve["false_alarms"]) / curve["n_other"]
        y = np.array(curve["hits"]) / curve["n_speech"]
        assert (curve["n_speech"], curve["n_other"]) == (table.is_speech.sum(), (~table.is_speech).sum())
        assert np.trapezoid(y, x) == pytest.approx(roc_auc(table.score, table.is_speech), abs=1e-12)


def test_the_marks_lie_on_the_curves(finished_study):
    _, results = finished_study
    rows = {(r["method"], r["condition"], r["threshold"]): {m["name"]: m["value"] for m in r["metrics"]}
            for r in results["rows"]}  # fmt: skip
    for curve in results["evidence"]["operating_curves"]["test"]:
        for threshold in ("calibrated", "default"):
            found = rows[curve["method"], curve["condition"], threshold]
            mark = np.array([1 - found["specificity"], found["recall"]])
            corners = np.stack([curve["false_alarms"], curve["hits"]], 1) / [curve["n_other"], curve["n_speech"]]
            steps = np.diff(corners, axis=0)
            along = np.clip(((mark - corners[:-1]) * steps).sum(1) / np.square(steps).sum(1), 0, 1)
            assert np.linalg.norm(corners[:-1] + along[:, None] * steps - mark, axis=1).min() < 1e-9


def test_the_diagram_holds_every_bin_with_its_clips(results):
    (drawing,) = reliability_diagrams(read_results(results))
    bins = results["evidence"]["probability"]["test_sets"]["test"]["reliability"]
    assert all(0 <= b["share_low"] <= b["speech_share"] <= b["share_high"] <= 1 for b in bins)
    assert sum(b["n"] for b in bins) == results["evidence"]["errors"]["test"]["n"]
    counts = [label for label in labels(drawing.svg) if label.isdigit()]
    assert sorted(counts, key=int) == sorted((str(b["n"]) for b in bins), key=int)


def fit_with(train: list[float], dev: list[float]) -> dict:
    fit = make_fit(1)
    fit["history"] = [
        {**record, "train_loss": t, "dev_loss": d}
        for record, t, d in zip(fit["history"], train, dev, strict=False)
    ]  # fmt: skip
    fit["best_epoch"] = 1 + int(np.argmin(dev))
    return fit


@pytest.mark.parametrize(
    ("train", "dev", "said"),
    [
        ([0.6, 0.4, 0.3, 0.2], [0.5, 0.3, 0.4, 0.5], "Overfitting: over epochs 3 to 4 dev loss rose from 0.300"),
        ([0.6, 0.4, 0.2], [0.5, 0.3, 0.4], "it was 0.400 (train loss 0.200): no 2 epochs in a row"),
        ([0.6, 0.4, 0.2], [0.5, 0.3, 0.2], "0.200, after epoch 3 (train loss 0.200), the last one: no overfitting"),
    ],
)
def test_overfitting_is_said_only_where_dev_loss_rises_while_train_loss_falls(train, dev, said):
    assert said in overfitting_sentence(fit_with(train, dev))


def test_the_learning_curve_says_so_below_the_drawing(results):
    drawings = learning_curves(read_results(results))
    assert len(drawings) == len(results["fits"]) == 2
    for drawing, fit in zip(drawings, results["fits"], strict=True):
        assert drawing.caption.endswith(overfitting_sentence(fit))
        assert {"Train loss", "Dev loss"} <= set(labels(drawing.svg))


def test_results_of_an_older_study_are_drawn_as_far_as_they_go(results):
    evidence = results["evidence"]
    del evidence["operating_curves"]
    for found in evidence["errors"].values():
        found["groups"] = [{k: g[k] for k in ("group", "label", "n", "n_wrong")} for g in found["groups"]]
    for found in evidence["probability"]["test_sets"].values():
        for each in found["reliability"]:
            del each["share_low"], each["share_high"]
    study = read_results(results)
    assert detection_curves(study) == group_plots(study) == reliability_diagrams(study) == []
