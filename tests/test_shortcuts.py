"""The shortcut test finds a recording condition that gives the class away, and is silent where none does."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from listenwell.data.check.audio_checks import (
    CONDITION_NAMES,
    CONTENT_NAMES,
    MeasuredClips,
    find_shortcuts,
    format_shortcuts,
    measure_conditions,
)
from listenwell.data.recording_history import RecordingHistory, impose_history
from listenwell.random_streams import stream

NOISE = stream(3, "noise").standard_normal(32_000)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listenwell.data.check.audio_checks.N_RESAMPLES", 200)


def make_clips(n_groups: int, seed: int, speech_is_narrower: float = 0.0) -> MeasuredClips:
    """Made measurements: 8 clips a group, every condition noise but the cut-off, where asked."""
    generator = stream(seed, "made")
    measured, labels, groups = [], [], []
    for group in range(n_groups):
        label = "SPEECH" if group % 2 else "NONSPEECH"
        for _ in range(8):
            row = dict(zip(CONDITION_NAMES + CONTENT_NAMES, generator.standard_normal(12), strict=True))
            row["cut_off_hz"] -= speech_is_narrower * (label == "SPEECH")
            measured.append(row)
            labels.append(label)
            groups.append(f"g{group}")
    return MeasuredClips(measured, labels, groups)


@pytest.mark.parametrize(("cut_off_hz", "level_db"), [(3100.0, -38.0), (4500.0, -30.0), (7500.0, -21.0)])
def test_what_was_imposed_is_measured(cut_off_hz: float, level_db: float) -> None:
    conditions = RecordingHistory(cut_off_hz, level_db, level_db - 42, 1.5, 0.2, 0.1)
    clip = impose_history(NOISE[: conditions.n_content], conditions, stream(1, "clip"))
    found = measure_conditions(clip / 32768)
    assert found["cut_off_hz"] == pytest.approx(cut_off_hz, abs=200)
    assert found["level_db"] == pytest.approx(level_db, abs=0.1)
    assert found["duration_s"] == pytest.approx(1.5)
    assert found["leading_s"] == pytest.approx(0.2, abs=0.02)
    assert found["trailing_s"] == pytest.approx(0.1, abs=0.02)
    assert found["floor_db"] == pytest.approx(level_db - 42, abs=3)
    assert found["quantisation_step"] == 1


def test_conditions_that_say_nothing_pass() -> None:
    report = find_shortcuts("made", make_clips(120, seed=1), stream(1, "test"))
    assert report.passed
    assert all(found.lower - 0.03 < 0.5 < found.upper + 0.03 for found in report.from_conditions)


def test_a_band_that_differs_by_class_is_found_by_both_classifiers() -> None:
    report = find_shortcuts("made", make_clips(60, seed=2, speech_is_narrower=2.0), stream(1, "test"))
    assert not report.passed
    assert all(found.auc > 0.85 for found in report.from_conditions)
    assert report.single_aucs["cut_off_hz"] < 0.15


def test_boosting_finds_what_a_line_cannot_see() -> None:
    clips = make_clips(100, seed=3)
    for row, label in zip(clips.measured, clips.labels, strict=True):
        if label == "SPEECH":
            row["level_db"] = float(np.sign(row["level_db"])) * 3.0  # both extremes
    logistic, boosting = find_shortcuts("made", clips, stream(1, "test")).from_conditions
    assert logistic.auc < 0.6 < 0.9 < boosting.auc


def test_a_part_is_judged_by_what_the_pool_taught() -> None:
    pool, part = make_clips(60, 4, speech_is_narrower=2.0), make_clips(20, 5, speech_is_narrower=-2.0)
    report = find_shortcuts("part", part, stream(1, "test"), training=pool)
    assert all(found.auc < 0.2 for found in report.from_conditions)


def test_a_group_property_is_not_mistaken_for_a_class_property() -> None:
    clips = make_clips(40, seed=6)
    for row, group in zip(clips.measured, clips.groups, strict=True):
        row["floor_db"] = float(stream(7, group).standard_normal())  # a constant of each group
    assert all(found.auc < 0.65 for found in find_shortcuts("made", clips, stream(1, "test")).from_conditions)


def test_the_report_is_reproducible_prints_and_is_json() -> None:
    first, second = (find_shortcuts("made", make_clips(14, seed=1), stream(1, "test")) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(asdict(first)))["part"] == "made"
    assert "logistic" in format_shortcuts([first])
