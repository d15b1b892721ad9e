"""Drawings and tables say what the evidence says: groups, curves, losses."""

import json
import re
from typing import Any

import numpy as np
import pytest
from made_results import make_results

from listenwell.evaluate.metrics import roc_auc
from listenwell.evaluate.scores import read_scores
from listenwell.report.evidence import SHOWN_GROUPS, errors_sentence, group_tables
from listenwell.report.figures import accuracy_curves, learning_curves
from listenwell.report.results import Results
from listenwell.report.tables import overfitting_sentence
from listenwell.report.trained import Fit
from listenwell.report.wording import format_metric, method_title


@pytest.fixture
def record(finished_study) -> dict[str, Any]:
    return json.loads(json.dumps(finished_study[1]))


@pytest.fixture(scope="module")
def results(finished_study) -> Results:
    return Results.model_validate(finished_study[1])


def labels(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_only_groups_with_errors_are_listed_the_hardest_first_and_all_errors_are_counted(record):
    groups = [
        {"group": f"g{i}", "label": "SPEECH", "n": 50, "n_wrong": max(0, 30 - i), "right": min(1.0, 0.4 + 0.02 * i),
         "low": 0.1, "high": 1.0}
        for i in range(40)
    ]  # fmt: skip
    record["evidence"]["errors"]["test"] |= {"groups": groups, "n": 2000, "n_wrong": 465}
    results = Results.model_validate(record)
    wrong, _ = group_tables(results)
    assert [row.cells[0].text for row in wrong.rows] == [f"g{i}" for i in range(SHOWN_GROUPS)]
    assert str(wrong.rows[1].cells[3]) == "0.420 [0.100, 1.000]"
    assert errors_sentence(results) == "Wrong on clean clips: Test 465 of 2000 clips."


def test_a_curve_says_the_numbers_of_every_point(results):
    first, others = accuracy_curves(results)
    for drawing in [*first, *others]:
        tips = re.findall(r'<g class="tip" data-tip="([^"]+)"', drawing.svg)
        assert len(tips) >= 3 * len(results.methods)
        for method, condition in (("fine-tuned", "clean"), ("webrtc", "clean")):
            shown = {results.row(method, at, "test", condition).metrics[0] for at in ("calibrated", "default")}
            said = {f"{method_title(method)}, {at}, clean: " for at in ("calibrated", "default")}
            assert any(tip == start + format_metric(metric) for tip in tips for start in said for metric in shown)


def test_the_curves_in_the_evidence_are_those_of_the_scores_and_the_marks_lie_on_them(finished_study, results):
    for curve in results.evidence.operating_curves["test"]:
        table = read_scores(finished_study[0].output / "scores" / f"{curve.method}-test.csv")
        is_there = np.isfinite(table.snr_db) if curve.condition == "noisy" else table.condition == "clean"
        table = table.select(is_there)
        assert (curve.n_speech, curve.n_other) == (table.is_speech.sum(), (~table.is_speech).sum())
        corners = np.stack([curve.false_alarms, curve.hits], 1) / [curve.n_other, curve.n_speech]
        area = np.trapezoid(corners[:, 1], corners[:, 0])
        assert area == pytest.approx(roc_auc(table.score, table.is_speech), abs=1e-12)
        for threshold in ("calibrated", "default"):
            row = results.row(curve.method, threshold, "test", curve.condition)
            measured = {metric.name: metric.value for metric in row.metrics}
            mark = np.array([1 - measured["specificity"], measured["recall"]])
            steps = np.diff(corners, axis=0)
            along = np.clip(((mark - corners[:-1]) * steps).sum(1) / np.square(steps).sum(1), 0, 1)
            assert np.linalg.norm(corners[:-1] + along[:, None] * steps - mark, axis=1).min() < 1e-9


@pytest.mark.parametrize(
    ("dev_losses", "named", "said"),
    [
        ([0.5, 0.3, 0.4, 0.5], "Overfitting: over epochs 3 to 4", "Overfitting: over epochs 3 to 4"),
        ([0.5, 0.3, 0.4], "", "it was 0.400 (train loss 0.200): no 2 epochs in a row"),
        ([0.5, 0.3, 0.2], "", "0.200, after epoch 3 (train loss 0.200), the last one: no overfitting"),
    ],
)
def test_whether_a_fit_overfitted_is_said_as_training_found_it(dev_losses, named, said):
    fit = make_results()["fits"][0]
    fit["history"] = [
        record | {"train_loss": 0.2, "dev_loss": loss}
        for record, loss in zip(fit["history"], dev_losses, strict=False)
    ]  # fmt: skip
    best = 1 + int(np.argmin(dev_losses))
    assert said in overfitting_sentence(Fit.model_validate(fit | {"best_epoch": best, "overfitting": named}))


def test_the_learning_curve_says_so_below_the_drawing(results):
    drawings = learning_curves(results)
    assert len(drawings) == len(results.fits) == 2
    for drawing, fit in zip(drawings, results.fits, strict=True):
        assert drawing.caption.endswith(overfitting_sentence(fit))
        assert {"Train loss", "Dev loss"} <= set(labels(drawing.svg))
