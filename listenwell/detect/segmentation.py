"""From scores of overlapping windows to stretches of speech: pure arithmetic, no model and no files.

A window is window_s long and begins every hop_s; only the last of a recording may be shorter. Time is cut into frames
of hop_s. A window's activity is expit(slope * (score - threshold)): 0.5 at the threshold, slope from dev (Platt 1999).
A frame's activity is the mean over the windows that contain it. Speech begins where it reaches `on` and ends where it
falls below `off` (hysteresis); pauses shorter than shortest_pause_s are filled, then speech shorter than
shortest_speech_s is dropped. Shapes: n windows, N frames.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """How windows become segments; all in seconds but on and off, which are activities."""

    window_s: float = 1.0
    hop_s: float = 0.25
    on: float = 0.5
    off: float = 0.5
    shortest_speech_s: float = 0.25
    shortest_pause_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; activity is its mean, 0.5 being the threshold."""

    start_s: float
    end_s: float
    activity: float


def count_windows(duration_s: float, rule: SegmentRule) -> int:
    """Return how many windows a recording of duration_s has: the last one reaches its end, or is all of it."""
    return max(1, math.ceil(round((duration_s - rule.window_s) / rule.hop_s, 9)) + 1)


def count_frames(duration_s: float, rule: SegmentRule) -> int:
    """Return how many frames a recording of duration_s has."""
    return math.ceil(round(duration_s / rule.hop_s, 9))


def window_activity(scores: Floats, threshold: float, slope: float) -> Floats:
    """Return the activity of each window, (n,)."""
    return np.asarray(expit(slope * (scores - threshold)))


def frame_activity(windows: Floats, n_frames: int, rule: SegmentRule) -> Floats:
    """Return the activity of each frame, (n_frames,), from that of the windows (n,), n at least 1."""
    per_window = max(1, round(rule.window_s / rule.hop_s))
    frames = np.arange(n_frames)
    first = np.clip(frames - per_window + 1, 0, windows.size - 1)
    last = np.clip(frames, 0, windows.size - 1)
    sums = np.concatenate([[0.0], np.cumsum(windows)])
    return np.asarray((sums[last + 1] - sums[first]) / (last - first + 1))


def find_segments(windows: Floats, duration_s: float, rule: SegmentRule) -> list[Segment]:
    """Return the stretches of speech in a recording, in order, from the activity of its windows (n,)."""
    activity = frame_activity(windows, count_frames(duration_s, rule), rule)
    runs = _long_enough(
        _join(_runs(hysteresis(activity, rule)), rule.shortest_pause_s / rule.hop_s),
        rule.shortest_speech_s / rule.hop_s,
    )
    return [
        Segment(first * rule.hop_s, min(last * rule.hop_s, duration_s), float(activity[first:last].mean()))
        for first, last in runs
    ]


def hysteresis(activity: Floats, rule: SegmentRule) -> NDArray[np.bool_]:
    """Return True from where activity (N,) reaches `on` until it falls below `off`."""
    is_on, is_off = activity >= rule.on, activity < rule.off
    changes = np.flatnonzero(is_on | is_off)
    if changes.size == 0:
        return np.zeros(activity.size, dtype=bool)
    latest = np.searchsorted(changes, np.arange(activity.size), side="right") - 1
    return np.where(latest < 0, False, is_on[changes[np.maximum(latest, 0)]])


def _runs(is_speech: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield (first, one past the last) frame of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_speech, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _join(runs: Iterator[tuple[int, int]], shortest_pause: float) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and first - joined[-1][1] < shortest_pause - 1e-9:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _long_enough(runs: Sequence[tuple[int, int]], shortest_speech: float) -> list[tuple[int, int]]:
    return [(first, last) for first, last in runs if last - first >= shortest_speech - 1e-9]
