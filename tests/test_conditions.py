"""Recording conditions are drawn from one distribution for both classes and imposed on the samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listenwell.data.recording_history import (
    CUT_OFF_BANDS_HZ,
    DURATION_S,
    EDGE_SILENCE_S,
    LEVEL_DB,
    RecordingHistory,
    count_samples,
    cut_content,
    draw_histories,
    frame_levels_db,
    impose_history,
    share_cut_off_bands,
    source_ceiling_hz,
    trim_recording,
)
from listenwell.random_streams import stream

NOISE = stream(3, "noise").standard_normal(32_000)
NARROW_HZ, WIDE_HZ = source_ceiling_hz(8000), source_ceiling_hz(44_100)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples / 32768))))


def test_a_source_never_gets_a_band_it_does_not_have() -> None:
    ceilings = [NARROW_HZ] * 30 + [source_ceiling_hz(11_025)] * 20 + [WIDE_HZ] * 50
    shares = share_cut_off_bands({"SPEECH": ceilings, "NONSPEECH": [WIDE_HZ] * 100})
    drawn = draw_histories(ceilings, shares, stream(1, "draw"))
    assert all(each.cut_off_hz <= ceiling for each, ceiling in zip(drawn, ceilings, strict=True))


@given(narrow=st.integers(0, 60), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_both_classes_have_the_same_cut_offs_whatever_their_sources(narrow: int, seed: int) -> None:
    speech, other = [NARROW_HZ] * narrow + [WIDE_HZ] * (100 - narrow), [WIDE_HZ] * 100
    shares = share_cut_off_bands({"SPEECH": speech, "NONSPEECH": other})
    cut_offs = [
        np.sort([each.cut_off_hz for each in draw_histories(ceilings, shares, stream(seed, name))])
        for name, ceilings in (("speech", speech), ("other", other))
    ]
    assert np.mean(np.abs(cut_offs[0] - cut_offs[1])) < 60
    assert sum(shares) == pytest.approx(1)


def test_every_condition_covers_its_whole_range_in_each_class() -> None:
    drawn = draw_histories([WIDE_HZ] * 200, (0.2, 0.15, 0.65), stream(1, "cover"))
    for name, (low, high) in {"duration_s": DURATION_S, "level_db": LEVEL_DB}.items():
        quartiles = np.quantile([getattr(each, name) for each in drawn], [0.25, 0.5, 0.75])
        assert quartiles == pytest.approx(low + (high - low) * np.array([0.25, 0.5, 0.75]), abs=0.02 * (high - low))
    leading = np.array([each.leading_s for each in drawn])
    assert np.mean(leading == 0) == pytest.approx(0.25, abs=0.01)
    assert leading.max() <= EDGE_SILENCE_S[1]


@given(
    cut_off_hz=st.floats(CUT_OFF_BANDS_HZ[0][0], CUT_OFF_BANDS_HZ[-1][1]),
    loudness_db=st.floats(*LEVEL_DB),
    leading_s=st.sampled_from([0.0, 0.05, 0.3]),
)
@settings(max_examples=30)
def test_a_clip_has_the_cut_off_level_length_and_silence_it_was_given(
    cut_off_hz: float, loudness_db: float, leading_s: float
) -> None:
    conditions = RecordingHistory(cut_off_hz, loudness_db, loudness_db - 45, 1.4, leading_s, 0.1)
    clip = impose_history(NOISE[: conditions.n_content], conditions, stream(1, "apply"))
    assert clip.dtype == np.int16
    assert len(clip) == count_samples(1.4)
    assert level_db(clip) == pytest.approx(loudness_db, abs=0.1)
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip)))) ** 2
    beyond = np.fft.rfftfreq(len(clip), 1 / 16_000) > cut_off_hz
    # What is left beyond the band is the 16-bit noise, spread over 8 kHz.
    assert 10 * np.log10(spectrum[beyond].mean() / spectrum[~beyond].mean()) < -50 + max(0, -40 - loudness_db) + 15
    if leading_s:
        # The low-pass lets the sound ring for some milliseconds before it begins.
        assert level_db(clip[: count_samples(leading_s - 0.02)]) < loudness_db - 35


def test_an_offset_is_taken_out() -> None:
    conditions = RecordingHistory(4000.0, -25.0, -70.0, 1.0, 0.0, 0.0)
    clip = impose_history(NOISE[:16_000] * 0.1 + 0.5, conditions, stream(1, "dc"))
    assert abs(clip.mean()) < 0.1


def test_a_peak_above_full_scale_lowers_the_level_instead_of_clipping() -> None:
    click = np.zeros(16_000)
    click[8000] = 1.0
    clip = impose_history(click, RecordingHistory(7000.0, -20.0, -70.0, 1.0, 0.0, 0.0), stream(1, "click"))
    assert np.max(np.abs(clip)) <= 0.992 * 32768
    assert level_db(clip) < -25


def test_the_room_around_a_voice_is_trimmed_and_a_steady_sound_is_kept_whole() -> None:
    voice_in_room = 0.03 * NOISE.copy()
    voice_in_room[8000:16_000] += NOISE[8000:16_000]
    assert len(trim_recording(voice_in_room)) == 8000
    assert len(trim_recording(NOISE)) == len(NOISE)
    assert len(trim_recording(np.zeros(16_000))) == 0


def test_content_begins_and_ends_with_sound() -> None:
    words = np.zeros(64_000)
    for start in range(1000, 60_000, 12_000):
        words[start : start + 6000] = NOISE[:6000]
    content = cut_content([words], 20_000, 0.5, stream(1, "cut"))
    levels = frame_levels_db(content)
    assert min(levels[:4].max(), levels[-4:].max()) > levels.max() - 35


@pytest.mark.parametrize("length", [160, 4000, 15_000, 16_000, 40_000])
def test_content_has_the_asked_length_from_recordings_of_any_length(length: int) -> None:
    assert cut_content([NOISE[:length]], 16_000, 0.3, stream(1, "any")).shape == (16_000,)


@pytest.mark.parametrize("position", [0.0, 0.4, 1.0])
def test_a_cut_holds_the_sound_and_not_the_room_around_it(position: float) -> None:
    room, word = 0.1 * NOISE, np.sin(np.arange(6000) / 10)
    recording = np.concatenate([room, word, room])
    content = cut_content([recording], 16_000, position, stream(1, "room"))
    assert np.mean(np.square(content)) > 0.4 * np.mean(np.square(word)) * 6000 / 16_000


def test_a_short_recording_is_lengthened_with_its_own_group() -> None:
    first, second = np.full(6000, 1.0), np.full(6000, 2.0)
    content = cut_content([first, second], 12_000, 0.0, stream(1, "join"))
    assert set(np.unique(content)) <= {0.0, 1.0, 2.0}
    assert {1.0, 2.0} <= set(np.unique(content))
