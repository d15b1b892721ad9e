"""Recordings become mono 16 kHz float32, or an AudioError that names the file; nothing is repaired in silence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.data.audio import SAMPLE_RATE_HZ, is_silent, load_recording, load_waveform, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.errors import AudioError

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype(np.float32)


def clip_of(path: Path, start_s: float = 0.0, duration_s: float = 1.0) -> Clip:
    return Clip("c1", path, start_s, duration_s, "SPEECH", "anna", "r", "own", "CC0")


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        load_recording(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_a_16_khz_float_recording_is_returned_to_the_bit(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, SAMPLE_RATE_HZ, subtype="FLOAT")
    samples = load_recording(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert np.array_equal(samples, TONE)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "no.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.flac", "a.ogg", "a.mp3"])
def test_a_truncated_recording_is_never_half_used(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path, bad):
    samples = TONE.copy()
    samples[100] = bad
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    assert "NaN or infinite" in refusal(tmp_path / "a.wav")


def test_a_clip_beyond_the_end_is_named_with_both_lengths(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, SAMPLE_RATE_HZ)
    with pytest.raises(AudioError, match=r"asked for 1\.000 s from 0\.500 s, but the recording lasts 1\.000 s"):
        load_waveform(clip_of(tmp_path / "a.wav", start_s=0.5))


def test_a_silent_recording_is_read_but_not_as_a_clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    assert is_silent(load_recording(tmp_path / "a.wav"))
    with pytest.raises(AudioError, match="clip 'c1' is silent"):
        load_waveform(clip_of(tmp_path / "a.wav"))


def test_the_same_sound_has_the_same_hash_in_another_container(tmp_path):
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, (TONE * 32767).astype(np.int16), SAMPLE_RATE_HZ)
    assert pcm_sha256(load_recording(tmp_path / "a.wav")) == pcm_sha256(load_recording(tmp_path / "b.flac"))
    assert pcm_sha256(TONE) != pcm_sha256(-TONE)


def test_a_header_that_promises_months_takes_no_memory(tmp_path):
    soundfile.write(tmp_path / "a.flac", TONE, SAMPLE_RATE_HZ)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[8 + 13] |= 0x0F  # STREAMINFO's 36 bits of "total samples"
    content[8 + 14 : 8 + 18] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    assert "truncated, the header promises 4294967.296 s but only 1.000 s could be read" in refusal(tmp_path / "a.flac")


@pytest.mark.parametrize(("n_channels", "rate_hz"), [(2, SAMPLE_RATE_HZ), (1, 44_100)])
def test_samples_whose_sum_overflows_are_refused(tmp_path, n_channels, rate_hz):
    largest = np.full((1000, n_channels), np.finfo(np.float32).max)
    largest[::2] *= -1 if n_channels == 1 else 1
    soundfile.write(tmp_path / "a.wav", largest, rate_hz, subtype="FLOAT")
    assert "holds NaN or infinite samples" in refusal(tmp_path / "a.wav")
