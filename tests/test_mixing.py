"""Backgrounds are mixed at exactly the requested ratio, never clip and never make NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.mixing import mix_at_snr, repeat_to
from listenwell.data.audio import rms
from listenwell.errors import AudioError
from listenwell.random_streams import stream

TONE = (0.5 * np.sin(np.arange(8000) * 0.1)).astype(np.float32)


def noise(n_samples: int) -> np.ndarray:
    return (0.01 * stream(0, "noise").standard_normal(n_samples)).astype(np.float32)


@given(snr_db=st.floats(-20, 40), n_noise=st.integers(160, 20_000), level=st.floats(1e-3, 1.0))
def test_the_mixture_has_the_requested_snr(snr_db, n_noise, level):
    clip = TONE * np.float32(level)
    mixture = mix_at_snr(clip, noise(n_noise), snr_db)
    background = mixture.samples / mixture.gain - clip
    assert 20 * np.log10(rms(clip) / rms(background)) == pytest.approx(snr_db, abs=0.01)


@given(snr_db=st.floats(-20, 40))
def test_the_mixture_never_leaves_full_scale(snr_db):
    mixture = mix_at_snr(TONE * 2, noise(8000), snr_db)
    assert np.abs(mixture.samples).max() <= 1.0 + 1e-6
    assert mixture.gain <= 1.0
    assert mixture.samples.dtype == np.float32


def test_a_short_background_is_repeated_and_its_level_measured_after_that():
    assert repeat_to(np.array([1, 2, 3], dtype=np.float32), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize(("clip", "background"), [(TONE * 0, noise(100)), (TONE, np.zeros(100, dtype=np.float32))])
def test_silence_has_no_ratio(clip, background):
    with pytest.raises(AudioError, match="silent"):
        mix_at_snr(clip, background, 0.0)


def test_an_empty_background_is_refused():
    with pytest.raises(AudioError, match="no samples"):
        mix_at_snr(TONE, np.empty(0, dtype=np.float32), 0.0)
