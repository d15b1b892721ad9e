"""Pitch, tempo, speed: a tone moves by the semitones asked for, onsets stay in time, durations are those asked for."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listenwell.augment.pitch_time import change_pitch_and_tempo, change_speed
from listenwell.data.audio import SAMPLE_RATE_HZ, peak, rms
from listenwell.random_streams import stream

ONSETS = (3000, 6000, 9000, 12_000)


def tone(frequency_hz: float, n_samples: int = 16_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / SAMPLE_RATE_HZ)).astype(np.float32)


def frequency_of(samples: np.ndarray) -> float:
    """Peak of the spectrum of the middle, on a grid of 0.015 Hz: 0.3 cents at 90 Hz."""
    middle = samples[2000:-2000] * np.hanning(samples.size - 4000)
    return float(np.argmax(np.abs(np.fft.rfft(middle, 2**20)))) * SAMPLE_RATE_HZ / 2**20


def find_onsets(samples: np.ndarray, near: list[float]) -> list[int]:
    """Where the level of 1 ms first passes half its largest within 50 ms of each place."""
    level = np.sqrt(np.convolve(samples.astype(np.float64) ** 2, np.ones(16) / 16, "same"))
    windows = [range(int(place) - 800, int(place) + 800) for place in near]
    return [int(window[np.argmax(level[window] > level[window].max() / 2)]) for window in windows]


def hits() -> np.ndarray:
    samples = np.zeros(16_000, np.float32)
    n = np.arange(400)
    for onset in ONSETS:
        samples[onset : onset + 400] = 0.5 * np.sin(2 * np.pi * 1000 * n / SAMPLE_RATE_HZ) * np.exp(-n / 80)
    return samples


@settings(max_examples=30)
@given(frequency_hz=st.floats(90, 3000), semitones=st.floats(-2, 2), tempo=st.floats(0.9, 1.1))
def test_a_tone_moves_by_the_semitones_asked_for_within_3_cents(frequency_hz, semitones, tempo):
    changed = change_pitch_and_tempo(tone(frequency_hz), semitones, tempo)
    assert 1200 * np.log2(frequency_of(changed) / frequency_hz) == pytest.approx(100 * semitones, abs=3)


@pytest.mark.parametrize(("semitones", "tempo"), [(-2, 1), (-0.7, 1), (1.3, 1), (2, 1), (0, 0.9), (0, 1.1), (2, 0.9)])
def test_onsets_stay_within_5_ms_of_their_place(semitones, tempo):
    changed = change_pitch_and_tempo(hits(), semitones, tempo)
    expected = [onset / tempo for onset in ONSETS]
    before = np.array(find_onsets(hits(), list(ONSETS))) - ONSETS
    moved_ms = (np.array(find_onsets(changed, expected)) - before - expected) / 16
    assert np.abs(moved_ms).max() < 5


@settings(max_examples=40)
@given(n_samples=st.integers(1, 20_000), semitones=st.floats(-2, 2), tempo=st.floats(0.9, 1.1), gain=st.floats(0.01, 1))
def test_the_duration_is_the_one_asked_for_and_the_level_stays(n_samples, semitones, tempo, gain):
    noise = stream(1, "pitch").standard_normal(n_samples)
    samples = (gain * noise / np.max(np.abs(noise))).astype(np.float32)
    changed = change_pitch_and_tempo(samples, semitones, tempo)
    assert changed.size == pytest.approx(n_samples / tempo, abs=1)
    assert changed.dtype == np.float32
    assert peak(changed) <= 1
    assert rms(changed) == pytest.approx(rms(samples), rel=1e-3) or peak(changed) == 1


def test_silence_stays_silence():
    assert not change_pitch_and_tempo(np.zeros(1000, np.float32), 2.0, 1.1).any()


def test_every_thread_gives_the_same_bits():
    samples = (0.1 * stream(2, "pitch").standard_normal(8000)).astype(np.float32)
    alone, results = change_pitch_and_tempo(samples, 1.0), {}

    def work(i: int) -> None:
        change_pitch_and_tempo(samples, -0.5 * i)
        results[i] = change_pitch_and_tempo(samples, 1.0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(alone, result) for result in results.values())


@pytest.mark.parametrize("speed", [0.9, 0.953, 1.1])
def test_a_faster_tone_is_the_tone_of_the_higher_frequency(speed):
    faster = change_speed(tone(440), speed)
    # away from the ends, where the resampling filter sees zeros; soxr's HQ recipe is good for 16 bit
    middle = slice(500, -500)
    assert faster[middle] == pytest.approx(tone(440 * speed, faster.size)[middle], abs=1e-4)


@given(n_samples=st.integers(1, 5000), speed=st.floats(0.5, 2))
def test_the_duration_is_the_clips_over_the_speed(n_samples, speed):
    changed = change_speed(tone(300, n_samples), speed)
    assert changed.shape == (max(1, round(n_samples / speed)),)
    assert changed.dtype == np.float32


def test_what_would_pass_half_the_rate_is_gone_and_no_peak_leaves_full_scale():
    assert np.abs(change_speed(tone(7900), 1.1)[500:-500]).max() < 1e-3
    square = np.sign(tone(440)).astype(np.float32)
    assert peak(change_speed(square, 0.97)) <= 1
