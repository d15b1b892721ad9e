"""Backgrounds are mixed at exactly the requested ratio, never clip and never make NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.mixing import (
    add_backgrounds,
    find_active_part,
    find_peak,
    gain_for_snr,
    measure_level,
    mix_at_snr,
    sum_at_one_level,
)
from listenwell.data.audio import peak, rms
from listenwell.errors import AudioError
from listenwell.random_streams import stream

TONE = (0.5 * np.sin(np.arange(8000) * 0.1)).astype(np.float32)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.01 * stream(seed, "noise").standard_normal(n_samples)).astype(np.float32)


def ratio_db(clip: np.ndarray, background: np.ndarray) -> float:
    return 20 * np.log10(rms(clip) / rms(background))


# Adding float32 numbers loses 6e-8 of the louder: at 40 dB that is 6e-6 of the background, far below 0.01 dB.
@given(
    snr_db=st.floats(-40, 40),
    n_clip=st.integers(1, 20_000),
    n_noise=st.integers(1, 20_000),
    level=st.floats(1e-3, 1.0),
    noise_level=st.floats(1e-2, 100),
)
def test_the_mixture_has_the_requested_snr(snr_db, n_clip, n_noise, level, noise_level):
    clip = np.resize(TONE + np.float32(0.1), n_clip) * np.float32(level)
    mixture = mix_at_snr(clip, noise(n_noise) * np.float32(noise_level), snr_db)
    background = mixture.samples.astype(np.float64) / mixture.gain - clip
    assert ratio_db(clip, background) == pytest.approx(snr_db, abs=0.01)


@given(snr_db=st.floats(-40, 60), gain=st.floats(1e-5, 1.0), seed=st.integers(0, 50))
def test_the_mixture_is_finite_and_never_leaves_full_scale(snr_db, gain, seed):
    mixture = mix_at_snr(TONE * np.float32(gain), noise(500, seed), snr_db)
    assert np.isfinite(mixture.samples).all()
    assert peak(mixture.samples) <= 1.0
    assert 0 < mixture.gain <= 1.0
    assert mixture.samples.dtype == np.float32


@pytest.mark.parametrize("snr_db", [-5, 10])
def test_over_the_active_part_pauses_do_not_count(snr_db):
    clip = np.concatenate([np.zeros(16_000, np.float32), TONE])
    background = noise(24_000)
    mixture = mix_at_snr(clip, background, snr_db, "active")
    heard = background[16_000:] * np.float32(mixture.background_gain)
    assert ratio_db(TONE, heard) == pytest.approx(snr_db, abs=0.01)
    # the pause is two thirds of the clip: over the whole of it the ratio is 10 log10(3) lower
    assert ratio_db(clip, background * np.float32(mixture.background_gain)) == pytest.approx(snr_db - 4.77, abs=0.1)


def test_the_active_part_is_what_lies_within_30_db_of_the_loudest_frame():
    clip = np.concatenate([TONE, TONE * np.float32(0.05), TONE * np.float32(0.02), np.zeros(7, np.float32)])
    active = find_active_part(clip)
    assert active.shape == clip.shape
    assert active[:16_000].all()
    assert not active[16_000:].any()


@given(levels=st.lists(st.floats(0.01, 10), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_sounds_that_are_summed_are_equally_loud(levels, seed):
    sounds = [noise(4000, 100 * seed + i) * np.float32(level) for i, level in enumerate(levels)]
    total = sum_at_one_level(sounds).astype(np.float64)
    scaled = [sound * (rms(sounds[0]) / rms(sound)) for sound in sounds]
    assert np.allclose(total, np.sum(scaled, axis=0), rtol=1e-6, atol=1e-5 * peak(sounds[0]) * len(sounds))


def test_backgrounds_at_their_own_ratios_are_added_at_once():
    backgrounds = [noise(8000, 1), noise(8000, 2)]
    gains = [gain_for_snr(TONE, background, snr_db) for background, snr_db in zip(backgrounds, (0, 10), strict=True)]
    mixed, gain = add_backgrounds(TONE, list(zip(backgrounds, gains, strict=True)))
    assert np.allclose(mixed / gain, TONE + backgrounds[0] * gains[0] + backgrounds[1] * gains[1], rtol=1e-6, atol=1e-5)
    for background, background_gain, snr_db in zip(backgrounds, gains, (0, 10), strict=True):
        assert ratio_db(TONE, background * background_gain) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("over", ["clip", "active"])
@pytest.mark.parametrize(
    ("clip", "background"),
    [(TONE * 0, noise(100)), (TONE, np.zeros(100, np.float32)), (TONE, np.full(100, 1e-30, np.float32))],
)
def test_silence_has_no_ratio(clip, background, over):
    with pytest.raises(AudioError, match="silent"):
        mix_at_snr(clip, background, 0.0, over)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value):
    broken = noise(8000)
    broken[17] = value
    with pytest.raises(AudioError, match="the background holds NaN"):
        mix_at_snr(TONE, broken, 0.0)
    with pytest.raises(AudioError, match="the clip holds NaN"):
        mix_at_snr(broken, TONE, 0.0)


@given(n_samples=st.integers(1, 30_000), level=st.floats(1e-4, 1))
def test_the_quick_level_is_the_exact_one(n_samples, level):
    samples = noise(n_samples) * np.float32(level)
    assert measure_level(samples) == pytest.approx(rms(samples), rel=1e-5)
    assert find_peak(samples) == peak(samples)
