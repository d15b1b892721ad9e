"""Audio checks find planted faults, say them in words, and name the cue from which the label can be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import invoke, succeed
from scipy import signal

from listenwell.data.check.audio_checks import (
    CONDITION_NAMES,
    Discrimination,
    MeasuredClips,
    ShortcutReport,
    check_audio,
    find_shortcuts,
    measure_conditions,
    warn_of_shortcuts,
)
from listenwell.data.clip import Clip
from listenwell.data.manifest import write_manifest
from listenwell.data.recording_history import RecordingHistory, impose_history
from listenwell.random_streams import stream

NOISE = stream(0, "audio checks").standard_normal(16_000)


def make_clip(folder: Path, name: str, label: str, group: str, samples: np.ndarray) -> Clip:
    path = folder / f"{name}.wav"
    soundfile.write(path, samples, 16_000, subtype="PCM_16")
    return Clip(name, path, 0.0, len(samples) / 16_000, label, group, path.name, "made", "CC0")


def make_clips(folder: Path, n_groups: int = 6, clips_each: int = 4, speech_band_hz: float = 7000) -> list[Clip]:
    """Noise of one level for both classes, up to 7 kHz in "nonspeech" and up to speech_band_hz in "speech"."""
    clips = []
    for label, band_hz in (("SPEECH", speech_band_hz), ("NONSPEECH", 7000)):
        low_pass = signal.butter(20, band_hz, "lowpass", fs=16_000, output="sos")
        for i in range(n_groups * clips_each):
            samples = signal.sosfilt(low_pass, stream(0, label, i).standard_normal(8000))
            samples *= 0.1 / np.sqrt(np.mean(np.square(samples)))
            clips.append(make_clip(folder, f"{label}_{i}", label, f"{label}_{i % n_groups}", samples))
    return clips


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.clip(10 * NOISE, -1, 1), "are clipped"),
        (0.01 * NOISE + 0.05, "have a DC offset"),
        (np.concatenate([0.1 * NOISE[:4000], np.zeros(12_000)]), "are silent"),
        (0.1 * NOISE[:800], "are shorter than 0.1 s"),
        (1e-3 * NOISE, "are quieter than -50 dB"),
        (0.1 * np.sin(np.arange(16_000)), "hold nothing above 4 kHz"),
    ],
)
def test_a_planted_fault_is_found_in_its_class_and_clip_and_nowhere_else(tmp_path, samples, words):
    clips = make_clips(tmp_path, n_groups=2, clips_each=1)
    faulty = make_clip(tmp_path, "faulty", "NONSPEECH", "g", samples)
    findings = [each for each in check_audio([*clips, faulty], 0).findings if words in each]
    assert len(findings) == 1
    assert findings[0].startswith("1 of 3 NONSPEECH clips ")
    assert findings[0].endswith("the worst is 'faulty'.")
    assert not any(words in each for each in check_audio(clips, 0).findings)


def test_a_band_that_gives_the_class_away_is_named_as_the_cue(tmp_path):
    report = check_audio(make_clips(tmp_path, speech_band_hz=3500), 0)
    (warning,) = [each for each in report.findings if "tell" in each]
    assert warning.startswith("the recording conditions tell the class: AUC")
    assert "most of all cut_off_hz (AUC 1.00 alone" in warning


@pytest.mark.parametrize(
    ("auc", "lower", "upper", "says"),
    [
        (0.52, 0.45, 0.60, ""),
        (0.66, 0.49, 0.80, "may tell the class: AUC 0.66"),
        (0.80, 0.70, 0.90, "s tell the class"),
    ],
)
def test_a_warning_says_no_more_than_the_interval_allows(auc, lower, upper, says):
    values = dict.fromkeys(CONDITION_NAMES, 0.5)
    report = ShortcutReport(4, 2, (Discrimination("logistic", auc, lower, upper),), values | {"level_db": 1 - auc})
    clips = MeasuredClips(np.full((4, 8), 0.5), np.array([True, False] * 2), ["a", "b"] * 2)
    warnings = warn_of_shortcuts(report, clips)
    assert len(warnings) == bool(says)
    assert all(says in warning and "most of all level_db" in warning for warning in warnings)


def test_folds_without_a_class_are_not_made_and_the_report_says_so(tmp_path):
    clips = make_clips(tmp_path, n_groups=6, clips_each=1)
    few = [clip for clip in clips if clip.label == "SPEECH" or clip.group in ("NONSPEECH_0", "NONSPEECH_1")]
    report = check_audio(few, 0)
    assert report.shortcuts is None
    assert (
        "it needs 5 groups of each class, one for every fold, and there are 6 of SPEECH and 2 of NONSPEECH"
        in (report.findings[-1])
    )


def test_what_cannot_be_used_is_listed_and_the_others_are_measured(tmp_path):
    clips = make_clips(tmp_path, 2, 1)
    silent = make_clip(tmp_path, "silent", "SPEECH", "g", np.zeros(1000))
    clips[0].path.write_bytes(b"")
    report = check_audio([*clips, silent], 0)
    assert sum(summary.n_clips for summary in report.classes) == 3
    assert ["0 bytes" in report.unreadable[0], "silent" in report.unreadable[1]] == [True, True]


def test_the_command_prints_and_writes_the_findings_and_fails_where_a_clip_cannot_be_used(tmp_path):
    clips = make_clips(tmp_path)
    write_manifest(tmp_path / "clips.csv", clips)
    command = ["audio-check", str(tmp_path / "clips.csv"), "--json", str(tmp_path / "found.json")]
    result = succeed(*command)
    assert "SPEECH: 24 clips, 6 groups" in result.stdout
    assert json.loads((tmp_path / "found.json").read_text())["shortcuts"]["n_clips"] == 48
    clips[0].path.write_bytes(b"")
    assert invoke(*command, "--overwrite").exit_code == 1


# the shortcut test

LONG_NOISE = stream(3, "noise").standard_normal(32_000)


def made_measures(n_groups: int, seed: int, speech_is_narrower: float = 0.0) -> MeasuredClips:
    """Made measurements: 8 clips a group, every condition noise but the cut-off, where asked."""
    groups = np.repeat(np.arange(n_groups), 8)
    conditions = stream(seed, "made").standard_normal((len(groups), 8))
    conditions[:, 0] -= speech_is_narrower * (groups % 2)
    return MeasuredClips(conditions, groups % 2 == 1, [f"g{group}" for group in groups])


@pytest.mark.parametrize(("cut_off_hz", "level_db"), [(3100.0, -38.0), (4500.0, -30.0), (7500.0, -21.0)])
def test_what_was_imposed_is_measured(cut_off_hz: float, level_db: float) -> None:
    conditions = RecordingHistory(cut_off_hz, level_db, level_db - 42, 1.5, 0.2, 0.1)
    clip = impose_history(LONG_NOISE[: conditions.n_content], conditions, stream(1, "clip"))
    found = measure_conditions(clip / 32768)
    assert found["cut_off_hz"] == pytest.approx(cut_off_hz, abs=200)
    assert found["level_db"] == pytest.approx(level_db, abs=0.1)
    assert found["duration_s"] == pytest.approx(1.5)
    assert found["leading_s"] == pytest.approx(0.2, abs=0.02)
    assert found["trailing_s"] == pytest.approx(0.1, abs=0.02)
    assert found["floor_db"] == pytest.approx(level_db - 42, abs=3)
    assert found["quantisation_step"] == 1


@pytest.mark.slow
def test_boosting_finds_what_a_line_cannot_see() -> None:
    clips = made_measures(100, seed=3)
    clips.conditions[clips.is_speech, 1] = 3.0 * np.sign(clips.conditions[clips.is_speech, 1])  # both extremes of level
    logistic, boosting = find_shortcuts(clips, stream(1, "test")).from_conditions
    assert logistic.auc < 0.6 < 0.9 < boosting.auc
