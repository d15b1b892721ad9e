"""A clip lies unchanged in its room tone, at the level and with the slope that were asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from scipy.signal import welch

from listenwell.augment.crop import RoomTone, RoomToneConfig, draw_room_tone, lay_in_room_tone, make_noise
from listenwell.data.audio import SAMPLE_RATE_HZ, rms
from listenwell.random_streams import stream

CLIP = (0.1 * stream(1, "clip").standard_normal(8_000)).astype(np.float32)


@given(level_db=floats(-60, 0), before=integers(0, 9_000), after=integers(0, 9_000), tilt=floats(0, 4))
def test_the_tone_has_its_level_before_under_and_after_the_clip(level_db, before, after, tilt):
    laid = lay_in_room_tone(CLIP, RoomTone(before, after, level_db, tilt, 7))
    assert laid.shape == (before + CLIP.size + after,)
    tone = laid.astype(np.float64)
    tone[before : before + CLIP.size] -= CLIP
    assert 20 * np.log10(rms(tone) / rms(CLIP)) == pytest.approx(level_db, abs=0.05)


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_its_power_falls_as_asked(tilt):
    frequencies, power = welch(make_noise(20 * SAMPLE_RATE_HZ, tilt, 3), SAMPLE_RATE_HZ, nperseg=1024)
    chosen = (frequencies > 100) & (frequencies < 7_000)
    slope = np.polyfit(np.log(frequencies[chosen]), np.log(power[chosen]), 1)[0]
    assert slope == pytest.approx(-tilt, abs=0.1)


def test_a_silent_clip_stays_in_silence():
    assert not lay_in_room_tone(np.zeros(100, dtype=np.float32), RoomTone(50, 60, -20.0, 1.0, 5)).any()


def test_draws_keep_to_the_policy():
    config = RoomToneConfig(probability=0.5)
    drawn = [draw_room_tone(config, stream(i, "room_tone")) for i in range(400)]
    tones = [tone for tone in drawn if tone is not None]
    assert 150 < len(tones) < 250
    assert all(0 <= tone.before <= 8_000 and 0 <= tone.after <= 8_000 for tone in tones)
    assert all(-60 <= tone.level_db <= -20 and 0 <= tone.tilt <= 2 for tone in tones)
    assert len({tone.noise_seed for tone in tones}) == len(tones)
