"""The threshold that a reader moves: the page holds the scores of the run, or says why it does not."""

import json
import re
import shutil
from typing import Any

import numpy as np
import pytest

from listenwell.errors import ManifestError
from listenwell.evaluate.methods import versions
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.report.blocks import Explorer, Paragraph
from listenwell.report.results import Results
from listenwell.report.threshold import NOT_THERE, OTHERS, threshold_blocks
from listenwell.storage.run_folder import RunFolder

NAME = "fine-tuned-test"


@pytest.fixture(scope="module")
def results(finished_study) -> Results:
    return Results.model_validate(finished_study[1])


@pytest.fixture
def moved(finished_study, tmp_path) -> RunFolder:
    shutil.copytree(finished_study[0].output, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def content_of(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def scores_of(test_set: dict[str, Any], condition: str) -> dict[str, tuple[float, bool]]:
    (found,) = [each for each in test_set["conditions"] if each["name"] == condition]
    pairs = zip(test_set["clips"], found["scores"], strict=True)
    return {clip: (score, is_speech) for (clip, _, is_speech), score in pairs}


def expected_of(table: ScoreTable) -> dict[str, tuple[float, bool]]:
    rows = zip(table.clip_id.tolist(), table.score.tolist(), table.is_speech.tolist(), strict=True)
    return {clip: (score, is_speech) for clip, score, is_speech in rows}


def test_the_page_holds_every_test_score_to_the_last_bit_and_the_delivered_threshold(finished_study, results):
    (test_set,) = content_of((finished_study[0].output / "report.html").read_text(encoding="utf-8"))["sets"]
    table = read_scores(finished_study[0].output / "scores" / f"{NAME}.csv")
    for condition, part in versions(table).items():
        if condition != "noisy":
            assert scores_of(test_set, condition) == expected_of(part)
    assert [each["name"] for each in test_set["conditions"] if each["is_noisy"]] == ["snr_0", "snr_10"]
    assert test_set["threshold"] == results.thresholds["fine-tuned"].value
    named = {clip: group for clip, group, _ in test_set["clips"]}
    assert named == dict(zip(table.clip_id.tolist(), table.group.tolist(), strict=True))


def test_an_opponent_has_its_curve_and_its_point(finished_study):
    (test_set,) = content_of((finished_study[0].output / "report.html").read_text(encoding="utf-8"))["sets"]
    drawn = {(each["title"], each["condition"]) for each in test_set["opponents"]}
    assert drawn == {(m, c) for m in ("Base model", "WebRTC VAD") for c in ("clean", "noisy")}
    for each in test_set["opponents"]:
        corners = np.array([each["fpr"], each["tpr"]]).T
        assert (corners[0] == 0).all()
        assert (corners[-1] == 1).all()
        assert (np.diff(corners, axis=0) >= 0).all()


def test_the_reliability_of_the_probabilities_counts_every_clean_clip(finished_study, results):
    (test_set,) = content_of((finished_study[0].output / "report.html").read_text(encoding="utf-8"))["sets"]
    bins = test_set["reliability"]
    assert all(0 <= b["share_low"] <= b["speech_share"] <= b["share_high"] <= 1 for b in bins)
    assert sum(b["n"] for b in bins) == results.evidence.errors["test"].n


def test_a_run_without_its_scores_says_so(results, moved):
    moved.score_identity(NAME).unlink()
    assert threshold_blocks(results, moved) == [Paragraph(NOT_THERE.format("Test"), style="note")]
    shutil.rmtree(moved.root / "scores")
    assert threshold_blocks(results, moved) == [Paragraph(NOT_THERE.format("Test"), style="note")]


def test_scores_of_another_study_are_not_taken(results, finished_study, moved):
    path = moved.scores(NAME)
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(ManifestError, match=r"fine-tuned-test\.csv"):
        threshold_blocks(results, moved)
    other = json.loads(json.dumps(finished_study[1]))
    for row in other["rows"]:
        row["metrics"][1]["value"] = 0.123
    (note,) = threshold_blocks(Results.model_validate(other), RunFolder(finished_study[0].output))
    assert note == Paragraph(OTHERS.format("Test"), style="note")
    assert any(isinstance(b, Explorer) for b in threshold_blocks(results, RunFolder(finished_study[0].output)))
