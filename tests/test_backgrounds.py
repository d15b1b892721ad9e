"""The bank: any stretch of any background, as its recording has it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from listenwell.data.audio import rms
from listenwell.data.backgrounds import BackgroundBank, repeat_to
from listenwell.data.clip import Background, Clip
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.errors import AudioError
from listenwell.random_streams import stream

LENGTHS_S = {"long": 4.0, "short": 0.25, "other_rate": 2.0}


@pytest.fixture(scope="module")
def beds(tmp_path_factory) -> list[Background]:
    folder = tmp_path_factory.mktemp("beds")
    return [write_bed(folder, name, length_s) for name, length_s in LENGTHS_S.items()]


def write_bed(folder: Path, name: str, length_s: float) -> Background:
    rate_hz = 44_100 if name == "other_rate" else 16_000
    path = folder / f"{name}.wav"
    soundfile.write(path, 0.05 * stream(0, name).standard_normal(round(length_s * rate_hz)), rate_hz)
    (bed,) = fill_backgrounds([Background(name, path, length_s, "noise", name, "made", "CC0")])
    return bed


def test_a_stretch_is_that_part_of_the_recording(beds):
    samples, _ = soundfile.read(beds[0].path, dtype="float32")
    assert np.array_equal(BackgroundBank(beds).load("long", 1.5, 0.5), samples[24_000:32_000])


@given(name=st.sampled_from(sorted(LENGTHS_S)), place=st.floats(0, 1), n_samples=st.integers(1, 70_000))
def test_a_stretch_has_the_length_asked_for(beds, name, place, n_samples):
    stretch = BackgroundBank(beds).load(name, place * LENGTHS_S[name], n_samples / 16_000)
    assert stretch.shape == (n_samples,)
    assert stretch.dtype == np.float32
    assert np.isfinite(stretch).all()


@given(n_samples=st.integers(1, 500), n_wanted=st.integers(1, 3000))
def test_a_repeated_background_begins_as_it_is_and_keeps_its_period(n_samples, n_wanted):
    samples = stream(1, n_samples).standard_normal(n_samples).astype(np.float32)
    repeated = repeat_to(samples, n_wanted)
    period = n_samples - n_samples // 4 if n_samples // 4 < 320 else n_samples - 320
    assert repeated.shape == (n_wanted,)
    assert np.array_equal(repeated[: min(period, n_wanted)], samples[: min(period, n_wanted)])
    assert np.array_equal(repeated[period:][: max(0, n_wanted - 2 * period)], repeated[2 * period :])


def test_the_seams_of_a_repeated_background_neither_click_nor_dip():
    tone = np.sin(2 * np.pi * 100.5 * np.arange(4000) / 16_000).astype(np.float32)
    repeated = repeat_to(tone, 16_000)
    assert np.abs(np.diff(repeated)).max() < 1.5 * np.abs(np.diff(tone)).max()
    assert np.abs(np.diff(np.resize(tone, 16_000))).max() > 10 * np.abs(np.diff(tone)).max()  # what it would be
    noise = stream(2, "seam").standard_normal(16_000).astype(np.float32)
    seam = repeat_to(noise, 32_000)[16_000 - 320 : 16_000]
    # equal power: 320 independent values vary by 4 % in level
    assert rms(seam) == pytest.approx(rms(noise), rel=0.15)


def test_training_speakers_become_backgrounds_of_their_own_groups(tmp_path, beds):
    samples = 0.1 * stream(3, "talk").standard_normal(32_000)
    soundfile.write(tmp_path / "talk.wav", samples, 16_000)
    clip = Clip("c1", tmp_path / "talk.wav", 0.5, 1.0, "SPEECH", "anna", "r", "made", "CC0")
    bank = BackgroundBank(beds, [clip, replace(clip, clip_id="c2", label="NONSPEECH")])
    (voice,) = [entry for entry in bank.entries if entry.kind == "speech"]
    assert (voice.background_id, voice.group, voice.duration_s) == ("clip/c1", "anna", 1.0)
    read, _ = soundfile.read(tmp_path / "talk.wav", dtype="float32")
    assert np.array_equal(bank.load("clip/c1", 0.25, 0.5), read[12_000:20_000])


def test_a_background_too_short_to_hear_is_refused(tmp_path):
    with pytest.raises(AudioError, match=r"at least 0\.01 s"):
        BackgroundBank([write_bed(tmp_path, "bad", 0.005)])
