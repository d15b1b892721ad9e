"""A simulated room: its decay is the one asked for, the direct sound stays, the level too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.reverb import ReverbConfig, Room, convolve_room, draw_room, reverberate, room_response
from listenwell.data.audio import SAMPLE_RATE_HZ, peak, rms
from listenwell.errors import AudioError
from listenwell.random_streams import stream

CLICK_AT = 4000
CLICK = np.zeros(16_000, dtype=np.float32)
CLICK[CLICK_AT] = 0.5


def decay_curve_db(response: np.ndarray) -> np.ndarray:
    """Schroeder's backward integration (1965), in dB re the whole energy."""
    energy = np.cumsum(np.square(response[::-1]))[::-1]
    return 10 * np.log10(energy / energy[0])


@pytest.mark.parametrize("t60_s", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("noise_seed", range(2))
def test_the_measured_reverberation_time_is_within_5_percent_of_the_one_asked_for(t60_s, noise_seed):
    # 1.5 T60 reaches -90 dB: the end of the response bends the curve above -40 dB by less than 0.01 dB
    response = room_response(Room(t60_s, noise_seed), round(1.5 * t60_s * SAMPLE_RATE_HZ))
    curve_db = decay_curve_db(response[1:])
    fitted = np.flatnonzero((curve_db < -5) & (curve_db > -35))
    slope_db = np.polyfit(fitted / SAMPLE_RATE_HZ, curve_db[fitted], 1)[0]
    assert -60 / slope_db == pytest.approx(t60_s, rel=0.05)


@pytest.mark.parametrize(("t60_s", "expected_db"), [(0.3, 3.4), (1.0, -1.9), (2.5, -5.9)])
def test_the_tail_has_the_energy_of_a_diffuse_room(t60_s, expected_db):
    rooms = [room_response(Room(t60_s, seed), round(1.5 * t60_s * SAMPLE_RATE_HZ)) for seed in range(10)]
    direct_to_reverberant = 1 / np.mean([np.sum(np.square(response[1:])) for response in rooms])
    # about 2 * 16000 * T60 / 13.8 independent values each: their mean energy varies by 1.5 % at most
    assert 10 * np.log10(direct_to_reverberant) == pytest.approx(expected_db, abs=0.2)


def test_the_direct_sound_comes_first_and_is_not_delayed():
    heard = reverberate(CLICK, Room(0.3, 1))
    assert np.all(np.abs(heard[: CLICK_AT - 1]) < 1e-6)
    assert int(np.argmax(np.abs(heard))) == CLICK_AT


@given(n_samples=st.integers(1, 3000), t60_s=st.floats(0.05, 10), gain=st.floats(0.001, 1), seed=st.integers(0, 9))
def test_length_and_level_stay_and_no_sample_leaves_full_scale(n_samples, t60_s, gain, seed):
    noise = stream(seed, "clip").standard_normal(n_samples)
    samples = (gain * noise / np.max(np.abs(noise))).astype(np.float32)
    heard = reverberate(samples, Room(t60_s, seed))
    assert heard.shape == samples.shape
    assert heard.dtype == np.float32
    assert peak(heard) <= 1
    assert rms(heard) == pytest.approx(rms(samples), rel=1e-4) or peak(heard) == pytest.approx(1)


def test_one_room_with_two_reverberation_times_has_one_noise():
    short, long = (room_response(Room(t60_s, 7), 1000) for t60_s in (0.3, 2.5))
    assert np.array_equal(np.sign(short), np.sign(long))
    assert np.array_equal(long[:100], room_response(Room(2.5, 7), 100))


@pytest.mark.parametrize("t60_s", [0.0, float("nan")])
def test_a_reverberation_time_no_room_has_is_refused(t60_s):
    with pytest.raises(ValueError, match="reverberation time"):
        Room(t60_s, 0)


def test_drawn_rooms_are_log_uniform_between_their_limits():
    rooms = [draw_room(ReverbConfig(probability=1), [], stream(i, "room")) for i in range(500)]
    assert all(0.2 <= room.t60_s <= 1.0 for room in rooms)
    # the middle of log-uniform 0.2 to 1 is their geometric mean; standard error 4.6 %
    assert np.median([room.t60_s for room in rooms]) == pytest.approx(np.sqrt(0.2), rel=0.14)
    assert len({room.noise_seed for room in rooms}) == 500
    with pytest.raises(ValueError, match="swap them"):
        ReverbConfig(shortest_t60_s=2)


def test_a_measured_response_is_heard_from_its_direct_sound_on():
    response = np.zeros(2000, np.float32)
    response[300], response[1100] = 0.8, 0.4
    heard = convolve_room(CLICK, response)
    assert int(np.argmax(np.abs(heard))) == CLICK_AT
    assert heard[CLICK_AT + 800] / heard[CLICK_AT] == pytest.approx(0.5, rel=1e-4)
    assert np.abs(heard[: CLICK_AT - 1]).max() < 1e-6


@pytest.mark.parametrize("response", [np.zeros(0), np.zeros(10), np.full(10, np.nan)])
def test_a_response_without_sound_is_refused(response):
    with pytest.raises(AudioError, match="impulse response"):
        convolve_room(CLICK, response)
