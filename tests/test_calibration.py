"""The threshold: the best one on dev, bound to the scores that chose it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.errors import ManifestError
from listenwell.evaluate.calibration import balanced_accuracy_curve, choose_threshold, read_threshold, write_threshold
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable


def table(scores, labels) -> ScoreTable:
    n = len(scores)
    return ScoreTable(
        clip_id=np.array([f"c{i}" for i in range(n)]),
        group=np.array([f"g{i % 3}" for i in range(n)]),
        label=np.array(["SPEECH" if label else "NONSPEECH" for label in labels]),
        score=np.array(scores, dtype=float),
        duration_ms=np.full(n, 1000.0),
        snr_db=np.full(n, np.nan),
        condition=np.full(n, "clean"),
    )


labelled_scores = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(labelled_scores)
def test_no_threshold_beats_the_chosen_one(rows):
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    chosen = choose_threshold(table(scores, labels))
    everywhere = [balanced_accuracy(decide(scores.astype(float), t), labels) for t in np.arange(-21, 22, 0.5)]
    assert chosen.dev_value == pytest.approx(max(everywhere))
    assert balanced_accuracy(decide(scores.astype(float), chosen.value), labels) == pytest.approx(chosen.dev_value)


@given(labelled_scores, st.floats(-5, 5))
def test_the_threshold_moves_with_the_scores(rows, shift):
    scores, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    moved = choose_threshold(table(scores + shift, labels)).value
    assert moved == pytest.approx(choose_threshold(table(scores, labels)).value + shift, abs=1e-9)


def test_between_separable_classes_the_threshold_lies_in_the_middle():
    assert choose_threshold(table([-2.0, -1.0, 3.0, 4.0], [0, 0, 1, 1])).value == 1.0


def test_the_curve_starts_at_everything_speech_and_ends_at_nothing():
    thresholds, values = balanced_accuracy_curve(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert thresholds.tolist() == [-1.0, 0.5, 2.0]
    assert values.tolist() == [0.5, 1.0, 0.5]


def test_the_hash_changes_with_any_score():
    one, other = table([0.0, 1.0], [0, 1]), table([0.0, 1.0 + 1e-15], [0, 1])
    assert choose_threshold(one).dev_sha256 == choose_threshold(table([0.0, 1.0], [0, 1])).dev_sha256
    assert choose_threshold(one).dev_sha256 != choose_threshold(other).dev_sha256


def test_one_class_alone_gives_no_threshold():
    with pytest.raises(ManifestError):
        choose_threshold(table([0.0, 1.0], [1, 1]))


def test_a_threshold_comes_back_from_disk_and_a_broken_file_is_refused(tmp_path):
    chosen = choose_threshold(table([0.0, 1.0], [0, 1]))
    write_threshold(tmp_path / "threshold.json", chosen)
    assert read_threshold(tmp_path / "threshold.json") == chosen
    (tmp_path / "threshold.json").write_text("{")
    with pytest.raises(ManifestError, match="not a threshold"):
        read_threshold(tmp_path / "threshold.json")
