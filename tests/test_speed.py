"""Speed: pitch and duration change together, nothing else does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.pitch_time import SpeedConfig, change_speed
from listenwell.data.audio import SAMPLE_RATE_HZ, peak


def tone(frequency_hz: float, n_samples: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / SAMPLE_RATE_HZ)).astype(np.float32)


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


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_nobody_can_play_is_refused(speed):
    with pytest.raises(ValueError, match="above 0"):
        change_speed(tone(440), speed)
    with pytest.raises(ValueError, match="lowest"):
        SpeedConfig(lowest=speed)


def test_limits_exchanged_are_refused():
    with pytest.raises(ValueError, match="swap them"):
        SpeedConfig(lowest=1.1, highest=0.9)
