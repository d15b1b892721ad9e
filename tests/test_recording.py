"""What a recorder does: gain, an 8-bit codec, a telephone line's band."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.recording import Band, BandConfig, GainConfig, change_gain, code_mu_law, draw_line, filter_band
from listenwell.data.audio import SAMPLE_RATE_HZ, peak, rms
from listenwell.random_streams import stream

TONE = (0.5 * np.sin(np.arange(16_000) * 0.1)).astype(np.float32)


@given(gain_db=st.floats(-60, 6))
def test_gain_changes_the_level_and_nothing_else(gain_db):
    changed = change_gain(TONE, gain_db)
    assert 20 * np.log10(rms(changed) / rms(TONE)) == pytest.approx(gain_db, abs=1e-3)
    assert np.allclose(changed / rms(changed), TONE / rms(TONE), rtol=0, atol=1e-5)


def test_gain_stops_at_full_scale():
    assert peak(change_gain(TONE, 20)) == 1


@pytest.mark.parametrize("level_db", [0, -10, -20, -30])
def test_mu_law_rounds_about_38_db_below_the_signal_at_every_level(level_db):
    samples = (TONE * 2 * 10 ** (level_db / 20)).astype(np.float32)
    error = code_mu_law(samples) - samples
    assert 20 * np.log10(rms(samples) / rms(error)) == pytest.approx(38, abs=2)


def test_mu_law_has_255_values_keeps_silence_and_full_scale_and_holds_what_is_beyond():
    ramp = np.linspace(-1.2, 1.2, 100_001).astype(np.float32)
    coded = code_mu_law(ramp)
    assert len(np.unique(coded)) == 255
    assert code_mu_law(np.array([0, 1, -1, 2], np.float32)).tolist() == [0, 1, -1, 1]
    assert np.array_equal(code_mu_law(coded), coded)


def test_lines_lie_within_their_edges_and_half_of_them_code():
    lines = [draw_line(BandConfig(probability=1), stream(i, "band")) for i in range(400)]
    assert all(100 <= band.low_hz <= 400 and 2800 <= band.high_hz <= 3800 for band, _ in lines)
    assert np.mean([codes for _, codes in lines]) == pytest.approx(0.5, abs=0.1)  # standard error 0.025
    assert draw_line(BandConfig(probability=0), stream(1, "band")) == (None, False)


@pytest.mark.parametrize(
    ("section", "setting", "named"),
    [
        (GainConfig, {"lowest_db": 7}, "swap them"),
        (BandConfig, {"highest_low_hz": 3000}, "was expected"),
        (BandConfig, {"lowest_low_hz": 1000, "highest_low_hz": 500}, "was expected"),
    ],
)
def test_limits_exchanged_are_refused(section, setting, named):
    with pytest.raises(ValueError, match=named):
        section(**setting)


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
