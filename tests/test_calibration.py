"""The threshold: the best one on dev, bound to the scores that chose it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.calibration import (
    BALANCED_ACCURACY,
    best_threshold,
    calibrate,
    choose_threshold,
    curve_cuts,
    parse_criterion,
    read_given_threshold,
    read_platt,
    read_threshold,
    resampled_choices,
    threshold_interval,
    write_calibration,
    write_threshold,
)
from listenwell.evaluate.intervals import group_scores
from listenwell.evaluate.metrics import balanced_accuracy, decide, recall, specificity
from listenwell.evaluate.scores import ScoreTable
from listenwell.storage.load_or_make import write_checksummed


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


# two cuts are equally good and their stretches equally wide; with these shifts and factors the last bits differ
TIED = [(0, False), (0, False), (0, True), (1, True), (14, False), (15, True)]
MIRRORED = [(-score, not label) for score, label in TIED]
NEGATED = [(-score, label) for score, label in TIED]
SHIFT = 1.0499421562327438
criteria = st.sampled_from(
    ("balanced_accuracy", "accuracy", "eer", "target_recall=0.8", "target_false_alarm=0.2", "cost=1,10,0.2")
)


def columns(rows) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = zip(*rows, strict=True)
    return np.array(scores, dtype=float), np.array(labels, dtype=bool)


@given(labelled_scores, st.floats(-5, 5) | st.floats(-1e6, 1e6), criteria)
@example(TIED, SHIFT, "balanced_accuracy")
@example([(score / 10, label) for score, label in TIED], SHIFT, "balanced_accuracy")
@example([(score * 10, label) for score, label in TIED], SHIFT, "balanced_accuracy")
@example(NEGATED, SHIFT, "balanced_accuracy")
@example(NEGATED, -SHIFT, "balanced_accuracy")
@example(MIRRORED, SHIFT, "balanced_accuracy")
@example(MIRRORED, -SHIFT, "balanced_accuracy")
def test_the_threshold_moves_with_the_scores(rows, shift, criterion):
    scores, labels = columns(rows)
    moved, reached = best_threshold(scores + shift, labels, parse_criterion(criterion))
    value, reached_before = best_threshold(scores, labels, parse_criterion(criterion))
    assert moved == pytest.approx(value + shift, abs=1e-9)
    assert reached == reached_before


@given(labelled_scores, st.integers(-12, 12).map(lambda power: 10.0**power) | st.floats(1e-6, 1e6), criteria)
@example(TIED, 0.1, "balanced_accuracy")
@example(TIED, 1e-3, "balanced_accuracy")
@example(NEGATED, 0.7, "balanced_accuracy")
@example(MIRRORED, 1 / 3, "balanced_accuracy")
@example([(0, False), (-1, True)], 1e-7, "balanced_accuracy")  # both ends equally good and equally far
def test_the_threshold_grows_with_the_scores(rows, factor, criterion):
    scores, labels = columns(rows)
    value = best_threshold(scores, labels, parse_criterion(criterion))[0]
    grown = best_threshold(scores * factor, labels, parse_criterion(criterion))[0]
    assert decide(scores * factor, grown).tolist() == decide(scores, value).tolist()
    beyond = {scores.min() - 1.0: scores.min() * factor - 1.0, scores.max() + 1.0: scores.max() * factor + 1.0}
    assert grown == pytest.approx(beyond[value] if value in beyond else value * factor, rel=1e-9, abs=1e-12 * factor)


@given(labelled_scores, st.randoms(use_true_random=False), st.floats(0.01, 100), criteria)
def test_the_order_of_the_rows_does_not_move_the_threshold(rows, rng, factor, criterion):
    shuffled = rng.sample(rows, len(rows))
    (scores, labels), (others, other_labels) = columns(rows), columns(shuffled)
    expected = best_threshold(scores * factor, labels, parse_criterion(criterion))
    assert best_threshold(others * factor, other_labels, parse_criterion(criterion)) == expected


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([(0, False), (1, True), (2, False), (6, True)], 4.0),  # the wider of two stretches
        ([(0, False), (2, True), (3, False), (5, True), (5, True), (5, True)], 4.0),  # as wide, nearer the midpoint
        ([(0, False), (2, True), (3, False), (5, True)], 1.0),  # as wide and as near: the lower
    ],
)
def test_of_equally_good_cuts_the_widest_then_the_nearest_the_midpoint_then_the_lowest(rows, value):
    assert best_threshold(*columns(rows))[0] == value


def test_the_draws_choose_among_equally_good_cuts_by_the_same_rule():
    scores, labels = columns(TIED)
    for shift in (0.0, SHIFT, -SHIFT):
        grouped = group_scores(scores + shift, labels, np.array(["a"] * len(scores)))
        chosen = np.concatenate([at for at, _, _ in resampled_choices(grouped, BALANCED_ACCURACY, 0, "threshold")])
        thresholds = curve_cuts(grouped).thresholds[chosen]
        assert thresholds == pytest.approx(best_threshold(scores + shift, labels)[0])


def test_between_separable_classes_the_threshold_lies_in_the_middle():
    assert choose_threshold(table([-2.0, -1.0, 3.0, 4.0], [0, 0, 1, 1])).value == 1.0


@pytest.mark.parametrize("scores", [[0.1, np.nextafter(0.1, 1)], [1e17, 2e17], [-1.7e308, 1.7e308]])
def test_a_threshold_parts_neighbouring_and_huge_scores(scores):
    value, reached = best_threshold(np.array(scores), np.array([False, True]))
    assert decide(np.array(scores), value).tolist() == [False, True]
    assert reached == 1.0


@given(labelled_scores, st.sampled_from((0.5, 0.8, 0.95)))
def test_a_target_recall_is_kept_with_the_most_specificity(rows, target):
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    value, reached = best_threshold(scores.astype(float), labels, parse_criterion(f"target_recall={target}"))
    says = decide(scores.astype(float), value)
    assert recall(says, labels) >= target
    assert reached == pytest.approx(specificity(says, labels))
    for t in np.arange(-21, 22, 0.5):
        other = decide(scores.astype(float), t)
        assert recall(other, labels) < target or specificity(other, labels) <= reached + 1e-12


@given(labelled_scores, st.sampled_from((0.01, 0.2, 0.5)))
def test_a_target_false_alarm_rate_is_not_exceeded(rows, target):
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    value, reached = best_threshold(scores.astype(float), labels, parse_criterion(f"target_false_alarm={target}"))
    says = decide(scores.astype(float), value)
    assert 1 - specificity(says, labels) <= target + 1e-12
    assert reached == pytest.approx(recall(says, labels))


@given(labelled_scores)
def test_no_threshold_is_right_more_often_than_the_one_for_accuracy(rows):
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    _, reached = best_threshold(scores.astype(float), labels, parse_criterion("accuracy"))
    best = max(np.mean(decide(scores.astype(float), t) == labels) for t in np.arange(-21, 22, 0.5))
    assert reached == pytest.approx(best)


def test_costs_move_the_threshold_away_from_the_dearer_error():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2 == 0
    scores = rng.normal(size=400) + 2.0 * labels
    cheap, _ = best_threshold(scores, labels, parse_criterion("cost=1,1,0.5"))
    dear, cost = best_threshold(scores, labels, parse_criterion("cost=1,20,0.5"))
    even, _ = best_threshold(scores, labels, BALANCED_ACCURACY)
    assert cheap == even
    assert dear > cheap + 0.5
    says = decide(scores, dear)
    assert cost == pytest.approx(0.5 * (1 - recall(says, labels)) + 10 * (1 - specificity(says, labels)))


def test_the_equal_error_threshold_has_equal_errors():
    labels = np.arange(400) % 2 == 0
    scores = np.random.default_rng(0).normal(size=400) + 1.0 * labels
    value, _ = best_threshold(scores, labels, parse_criterion("eer"))
    says = decide(scores, value)
    assert recall(says, labels) == pytest.approx(specificity(says, labels), abs=0.006)


@pytest.mark.parametrize("text", ["best", "target_recall", "target_recall=95", "eer=1", "cost=1,a,0.5", "cost=0,1,0.5"])
def test_an_impossible_criterion_is_refused(text):
    with pytest.raises(ConfigError, match="criterion"):
        parse_criterion(text)


def test_a_criterion_is_its_own_text():
    for text in ("balanced_accuracy", "target_recall=0.95", "cost=1,10,0.2"):
        assert str(parse_criterion(text)) == text


def made_dev(n_groups: int, seed: int = 0) -> ScoreTable:
    """Groups of 10 clips, speech one logit above; groups differ by half a logit."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_groups) % 2 == 0, 10)
    scores = rng.logistic(size=labels.size) + 2.0 * labels + np.repeat(rng.normal(0, 0.5, n_groups), 10)
    return replace(table(scores, labels), group=np.repeat([f"g{i}" for i in range(n_groups)], 10))


def test_the_interval_of_the_threshold_holds_it_and_shrinks_with_more_groups():
    widths = []
    for n_groups in (12, 200):
        found = threshold_interval(made_dev(n_groups), BALANCED_ACCURACY, seed=0)
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < 0.7 * widths[0]
    assert "only 12 groups" in threshold_interval(made_dev(12), BALANCED_ACCURACY, seed=0).note


def test_the_interval_moves_with_the_scores_and_is_a_function_of_its_seed():
    dev = made_dev(20)
    moved = replace(dev, score=dev.score + 5.0)
    one, same, other = (
        threshold_interval(dev, BALANCED_ACCURACY, 0), threshold_interval(dev, BALANCED_ACCURACY, 0),
        threshold_interval(moved, BALANCED_ACCURACY, 0),
    )  # fmt: skip
    assert one == same
    assert (other.low, other.high) == pytest.approx((one.low + 5.0, one.high + 5.0))


def test_a_calibration_file_is_read_as_a_threshold_too(tmp_path):
    path = tmp_path / "threshold.json"
    found = calibrate(made_dev(20), parse_criterion("target_recall=0.9"), seed=0)
    write_calibration(path, found)
    assert read_threshold(path) == found.threshold
    assert read_platt(path) == found.platt
    assert read_given_threshold(str(path), 0.0) == (found.threshold.value, found.threshold)
    write_threshold(path, found.threshold)
    assert read_platt(path) is None
    path.write_text(json.dumps(asdict(found.threshold) | {"platt": 3}))
    with pytest.raises(ManifestError, match="no slope, intercept and prior"):
        read_platt(path)


def test_a_threshold_is_a_number_a_file_or_the_default(tmp_path):
    assert read_given_threshold("", 0.5) == (0.5, None)
    assert read_given_threshold("-1.5", 0.5) == (-1.5, None)
    with pytest.raises(ManifestError, match="not finite"):
        read_given_threshold("nan", 0.0)
    with pytest.raises(ManifestError, match="not a threshold"):
        read_given_threshold(str(tmp_path / "none.json"), 0.0)


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
    for content, said in (({"value": 1.0}, "without criterion, "), ({**asdict(chosen), "value": None}, "real number")):
        write_checksummed(tmp_path / "threshold.json", content)
        with pytest.raises(ManifestError, match=rf"threshold\.json: not a threshold \(.*{said}"):
            read_threshold(tmp_path / "threshold.json")
    (tmp_path / "threshold.json").write_text("{")
    with pytest.raises(ManifestError, match="not a threshold"):
        read_threshold(tmp_path / "threshold.json")


def test_the_points_of_the_drawn_curves_stand_at_the_thresholds_between_the_scores():
    score = np.array([3.0, 1.0, 7.0, 1.0])
    grouped = group_scores(score, np.array([True, False, True, False]), np.arange(4))
    cuts = curve_cuts(grouped)
    assert cuts.thresholds.tolist() == [8.0, 5.0, 2.0, 0.0]
    assert cuts.half_widths.tolist() == [0.0, 2.0, 1.0, 0.0]
