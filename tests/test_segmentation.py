import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.detect.segmentation import SegmentRule, count_windows, find_segments, frame_activity, hysteresis

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
