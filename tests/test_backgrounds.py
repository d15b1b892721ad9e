"""The bank: any stretch of any background, read from the recording or from one mapped file to the same bits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from made_sounds import make_study, study_record

from listenwell.data.audio import rms
from listenwell.data.backgrounds import SAMPLES, BackgroundBank, BackgroundFile, build_background_file, repeat_to
from listenwell.data.clip import Background, Clip
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.errors import AudioError
from listenwell.random_streams import stream

LENGTHS_S = {"long": 4.0, "short": 0.25, "other_rate": 2.0}


@pytest.fixture(scope="module")
def beds(tmp_path_factory) -> list[Background]:
    folder = tmp_path_factory.mktemp("beds")
    return [write_bed(folder, name, length_s) for name, length_s in LENGTHS_S.items()]


def write_bed(folder: Path, name: str, length_s: float, samples: np.ndarray | None = None) -> Background:
    rate_hz = 44_100 if name == "other_rate" else 16_000
    path = folder / f"{name}.wav"
    made = 0.05 * stream(0, name).standard_normal(round(length_s * rate_hz))
    soundfile.write(path, made if samples is None else samples, rate_hz)
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


@pytest.fixture(scope="module")
def stored(beds, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bank") / "bank"
    build_background_file(folder, beds)
    return folder


@pytest.mark.parametrize(("name", "offset_s"), [("long", 1.25), ("short", 0.1)])
def test_the_mapped_file_gives_the_bits_of_a_16_khz_recording(beds, stored, name, offset_s):
    mapped = BackgroundBank(beds, stored=BackgroundFile(stored, beds))
    assert np.array_equal(mapped.load(name, offset_s, 0.5), BackgroundBank(beds).load(name, offset_s, 0.5))


def test_another_rate_is_resampled_once_and_rounded_to_16_bit(beds, stored):
    whole = BackgroundBank(beds).load("other_rate", 0.0, 2.0)
    mapped = BackgroundFile(stored, beds).read("other_rate", 0, 32_000)
    assert mapped == pytest.approx(whole, abs=0.51 / 32768)


def test_a_file_that_changed_is_refused(beds, tmp_path):
    build_background_file(tmp_path / "bank", beds)
    path = tmp_path / "bank" / SAMPLES
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"changed since it was built.*build it again"):
        BackgroundFile(tmp_path / "bank", beds)
    path.write_bytes(content[:-2])
    with pytest.raises(AudioError, match="changed since it was built"):
        BackgroundFile(tmp_path / "bank", beds)


def test_a_background_that_is_not_in_the_file_or_was_another_one_is_refused(tmp_path):
    bed = write_bed(tmp_path, "a", 0.5)
    build_background_file(tmp_path / "bank", [bed])
    with pytest.raises(AudioError, match="'b' is not in it, or was another recording"):
        BackgroundFile(tmp_path / "bank", [replace(bed, background_id="b")])
    changed = write_bed(tmp_path, "a", 0.5, np.full(8000, 0.25))
    with pytest.raises(AudioError, match="'a' is not in it, or was another recording"):
        BackgroundFile(tmp_path / "bank", [changed])


@pytest.mark.parametrize(
    ("samples", "length_s", "named"), [(np.zeros(8000), 0.5, "silent"), (np.full(80, 0.1), 0.005, "at least 0.01 s")]
)
def test_a_background_nobody_can_hear_is_refused_and_nothing_is_left(beds, tmp_path, samples, length_s, named):
    bed = write_bed(tmp_path, "bad", length_s, samples)
    with pytest.raises(AudioError, match=named):
        build_background_file(tmp_path / "bank", [*beds, bed])
    assert not (tmp_path / "bank").exists()


@pytest.mark.slow
def test_a_study_with_stored_backgrounds_finds_the_same_and_has_fits_of_its_own(tmp_path):
    straight = study_record(make_study(tmp_path))
    config = make_study(tmp_path, "data.store_backgrounds=true", f"output={tmp_path / 'stored'}")
    assert study_record(config)["rows"] == straight["rows"]
    stored = json.loads((config.output / "results.json").read_text())
    assert straight["fits"][0]["identity"] != stored["fits"][0]["identity"]
