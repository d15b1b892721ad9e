"""Band filters: what lies inside stays, what lies outside goes, nothing moves, and no clip is too short."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.filters import Band, filter_band
from listenwell.data.audio import SAMPLE_RATE_HZ, peak, rms
from listenwell.random_streams import stream

TELEPHONE = Band(300, 3400)


def tone(frequency_hz: float, n_samples: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / SAMPLE_RATE_HZ)).astype(np.float32)


def change_db(frequency_hz: float, band: Band) -> float:
    """Gain in the middle of a second, away from the ends."""
    middle = slice(4000, 12_000)
    return 20 * np.log10(rms(filter_band(tone(frequency_hz), band)[middle]) / rms(tone(frequency_hz)[middle]))


@pytest.mark.parametrize("frequency_hz", [500, 1000, 2500])
def test_what_lies_within_the_band_keeps_its_level(frequency_hz):
    assert change_db(frequency_hz, TELEPHONE) == pytest.approx(0, abs=0.4)


@pytest.mark.parametrize(
    ("frequency_hz", "band"), [(100, TELEPHONE), (7000, TELEPHONE), (7000, Band(high_hz=3400)), (100, Band(low_hz=300))]
)
def test_what_lies_beyond_an_edge_is_gone(frequency_hz, band):
    assert change_db(frequency_hz, band) < -40


@pytest.mark.parametrize(("edge_hz", "band"), [(3400, Band(high_hz=3400)), (300, Band(low_hz=300))])
def test_an_edge_is_6_db_down(edge_hz, band):
    assert change_db(edge_hz, band) == pytest.approx(-6.02, abs=0.1)


@pytest.mark.parametrize("band", [TELEPHONE, Band(high_hz=3400), Band(low_hz=300)])
def test_nothing_moves_in_time(band):
    click = np.zeros(16_000, np.float32)
    click[8000] = 0.5
    filtered = filter_band(click, band)
    assert int(np.argmax(np.abs(filtered))) == 8000
    assert filtered[7900:8101] == pytest.approx(filtered[7900:8101][::-1], abs=1e-5)


@given(n_samples=st.integers(1, 400), band=st.sampled_from([TELEPHONE, Band(high_hz=3400), Band(low_hz=300)]))
def test_a_clip_of_any_length_can_be_filtered_and_stays_within_full_scale(n_samples, band):
    samples = np.clip(stream(1, n_samples).standard_normal(n_samples), -1, 1).astype(np.float32)
    filtered = filter_band(samples, band)
    assert filtered.shape == samples.shape
    assert np.isfinite(filtered).all()
    assert peak(filtered) <= 1


@pytest.mark.parametrize(
    "edges_hz", [(None, None), (3400, 300), (300, 300), (5, None), (None, 8000), (float("nan"), 1)]
)
def test_a_band_that_keeps_nothing_or_everything_is_refused(edges_hz):
    with pytest.raises(ValueError, match="edges"):
        Band(*edges_hz)
