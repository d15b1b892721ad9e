from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.detect.deciding import DecidingScores
from listenwell.detect.segmentation import (
    SegmentRule,
    count_windows,
    find_segments,
    frame_activity,
    hysteresis,
    undecided,
    window_turns,
    windows_per_frame,
)

RULE = SegmentRule(window_s=1.0, hop_s=0.25, on=0.5, off=0.5, shortest_speech_s=0.0, shortest_pause_s=0.0)


def by_loop(activity: list[float], on: float, off: float) -> list[bool]:
    """Hysteresis as it is told in words."""
    states, state = [], False
    for value in activity:
        state = value >= on or (state and value >= off)
        states.append(state)
    return states


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_hysteresis_is_what_the_words_say(activity, one, other):
    rule = SegmentRule(on=max(one, other), off=min(one, other))
    assert hysteresis(np.array(activity), rule).tolist() == by_loop(activity, rule.on, rule.off)


@given(st.integers(1, 60), st.integers(1, 8))
def test_a_frame_has_the_mean_of_the_windows_that_contain_it(n_frames, per_window):
    rule = SegmentRule(window_s=0.25 * per_window, hop_s=0.25)
    n_windows = count_windows(n_frames * 0.25, rule)
    windows = np.random.default_rng(0).random(n_windows)
    frames = frame_activity(windows, n_frames, rule)
    for i in range(n_frames):
        inside = [windows[j] for j in range(n_windows) if j <= i < j + per_window]
        assert frames[i] == pytest.approx(np.mean(inside))


@given(st.floats(0.01, 100))
def test_the_last_window_reaches_the_end_and_is_longer_than_what_it_adds(duration_s):
    last_s = (count_windows(duration_s, RULE) - 1) * RULE.hop_s
    assert last_s + RULE.window_s >= duration_s - 1e-6
    assert duration_s <= RULE.window_s or duration_s - last_s > RULE.window_s - RULE.hop_s - 1e-6


def test_a_voice_of_two_seconds_is_found_within_a_hop_of_its_ends():
    starts_s = np.arange(count_windows(10.0, RULE)) * RULE.hop_s
    heard = np.array([max(0.0, min(s + 1.0, 6.0) - max(s, 4.0)) for s in starts_s])
    ((start_s, end_s),) = [(s.start_s, s.end_s) for s in find_segments((heard >= 0.5).astype(float), 10.0, RULE)]
    assert abs(start_s - 4.0) <= RULE.hop_s
    assert abs(end_s - 6.0) <= RULE.hop_s


def test_short_pauses_are_filled_and_then_short_speech_is_dropped():
    frames = np.array([0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0], dtype=float)
    rule = SegmentRule(window_s=0.25, hop_s=0.25, shortest_speech_s=0.5, shortest_pause_s=0.5)
    found = find_segments(frames, frames.size * 0.25, rule)
    assert [(s.start_s, s.end_s) for s in found] == [(0.25, 1.5)]
    assert found[0].activity == pytest.approx(0.8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.floats(0.05, 1.0))
def test_segments_lie_inside_the_recording_in_order_and_apart(windows, on):
    rule = SegmentRule(on=on, off=on / 2, shortest_speech_s=0.25, shortest_pause_s=0.5)
    duration_s = (len(windows) - 1) * rule.hop_s + rule.window_s - 0.01
    found = find_segments(np.array(windows), duration_s, rule)
    edges = [edge for s in found for edge in (s.start_s, s.end_s)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= duration_s for edge in edges)
    assert all(s.end_s - s.start_s >= 0.24 for s in found)


activities = st.floats(0, 1) | st.sampled_from([0.0, 0.02, 0.98, 1.0])


@st.composite
def recordings(draw):
    """A rule, the activity of all windows of a recording, and how long the recording is."""
    low, high = sorted(draw(st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95))))
    rule = SegmentRule(
        draw(st.sampled_from([0.25, 0.5, 0.7, 0.75, 1.0, 2.0])), 0.25, high, low,
        *draw(st.tuples(st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.5]))),
    )  # fmt: skip
    values = draw(st.lists(activities | st.tuples(activities, st.integers(1, 30)), min_size=1, max_size=60))
    windows = np.concatenate([np.full(v[1], v[0]) if isinstance(v, tuple) else [v] for v in values])
    return rule, windows, (windows.size - 1) * 0.25 + draw(st.floats(rule.window_s - 0.249, rule.window_s))


def decide(rule, windows, batch=4, stretch=7, known=None):
    """Score what decides; a window's one sample is its number, its score its activity."""
    asked = []

    def score(batches):
        for waveforms in batches:
            asked.append([int(waveform[0]) for waveform in waveforms])
            yield windows[asked[-1]]

    numbers = (np.array([number]) for number in range(windows.size))
    deciding = DecidingScores(numbers, score, lambda scores: scores, rule, batch, known, stretch)
    return deciding, list(deciding), asked


def stretches(segments):
    return [(segment.start_s, segment.end_s) for segment in segments]


@given(recordings(), st.integers(1, 9), st.integers(1, 40))
def test_segments_of_the_deciding_windows_are_those_of_all_windows(recording, batch, stretch):
    rule, windows, duration_s = recording
    deciding, _, asked = decide(rule, windows, batch, stretch)
    numbers = [number for batch in asked for number in batch]
    assert len(numbers) == len(set(numbers)) == np.isfinite(deciding.scores).sum()
    assert max(map(len, asked)) <= batch
    assert stretches(find_segments(deciding.scores, duration_s, rule)) == stretches(
        find_segments(windows, duration_s, rule)
    )


@given(recordings(), st.integers(0, 40))
def test_a_decision_goes_on_in_the_same_batches(recording, n_kept):
    rule, windows, _ = recording
    whole, batches, asked = decide(rule, windows)
    kept = {n: s for batch in batches[:n_kept] for n, s in zip(batch.numbers, batch.scores, strict=True)}
    again, _, asked_again = decide(rule, windows, known=kept)
    assert asked_again == asked[n_kept:]
    assert np.array_equal(again.scores, whole.scores, equal_nan=True)


@given(recordings(), st.data())
def test_a_frame_is_decided_where_the_missing_windows_cannot_change_it(recording, data):
    rule, windows, duration_s = recording
    n_frames = round(duration_s / rule.hop_s)
    known = np.where(data.draw(st.lists(st.booleans(), min_size=windows.size, max_size=windows.size)), windows, np.nan)
    filled = np.where(np.isnan(known), data.draw(st.sampled_from([0.0, 0.3, 1.0])), known)
    for other in (windows, filled):
        differs = hysteresis(frame_activity(other, n_frames, rule), rule) != hysteresis(
            frame_activity(np.where(np.isnan(known), 0.0, known), n_frames, rule), rule
        )
        assert not (differs & ~undecided(known, n_frames, rule)).any()


@pytest.mark.parametrize(("activity", "share"), [(0.01, 0.5), (0.99, 0.75)])
def test_clear_recordings_need_half_or_three_quarters_of_the_windows(activity, share):
    rule = SegmentRule(on=0.7, off=0.5, shortest_speech_s=0.0, shortest_pause_s=0.0)
    deciding, _, _ = decide(rule, np.full(400, activity), batch=32, stretch=1024)
    assert np.isfinite(deciding.scores).mean() == pytest.approx(share, abs=0.01)


def test_segments_are_refused_where_missing_windows_decide():
    windows = np.array([0.9, np.nan, np.nan, 0.9, 0.9])
    with pytest.raises(ValueError, match="leave it open"):
        find_segments(windows, 2.0, RULE)


@given(st.integers(1, 64))
def test_every_turn_comes_once_among_the_windows_of_a_frame(per_window):
    rule = SegmentRule(window_s=0.25 * per_window, hop_s=0.25)
    turns = window_turns(np.arange(10, 10 + windows_per_frame(rule)), rule)
    assert sorted(turns.tolist()) == list(range(per_window))
    assert window_turns(np.arange(4), SegmentRule(1.0, 0.25)).tolist() == [0, 2, 1, 3]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.sampled_from([None, 2.5, 4.0, 10.0]),
)
def test_speech_is_padded_and_cut_into_parts_that_are_no_longer_than_wanted(windows, pad_s, longest_s):
    activity, duration_s = np.array(windows), (len(windows) - 1) * RULE.hop_s + RULE.window_s - 0.01
    plain = find_segments(activity, duration_s, RULE)
    found = find_segments(activity, duration_s, replace(RULE, pad_s=pad_s, longest_speech_s=longest_s))
    edges = [edge for s in found for edge in (s.start_s, s.end_s)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= duration_s for edge in edges)
    assert all(s.end_s - s.start_s <= (longest_s or np.inf) + 1e-9 for s in found)
    # all that was speech still is
    assert all(any(s.start_s <= t <= s.end_s for s in found) for one in plain for t in (one.start_s, one.end_s))
    if longest_s is None:
        assert len(found) == len(plain)


def test_long_speech_is_cut_where_it_is_least_active_and_a_pause_is_shared_by_its_pads():
    rule = replace(RULE, window_s=0.25)
    windows = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.9, 0.9, 0.9, 0.0, 0.9])
    found = find_segments(windows, 2.5, replace(rule, longest_speech_s=1.6, pad_s=0.2))
    cuts = [(round(s.start_s, 3), round(s.end_s, 3)) for s in found]
    assert cuts == [(0.0, 1.0), (1.0, 2.0 + 0.125), (2.25 - 0.125, 2.5)]
