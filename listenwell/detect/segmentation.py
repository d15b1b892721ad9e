"""From scores of overlapping windows to stretches of speech: pure arithmetic, no model and no files.

A window is window_s long and begins every hop_s; only the last of a recording may be shorter. Time is cut into frames
of hop_s. A window's activity is expit(slope * (score - threshold)): 0.5 at the threshold, slope from dev (Platt 1999).
A frame's activity is the mean over the windows that contain it. Speech begins where it reaches `on` and ends where it
falls below `off` (hysteresis); pauses shorter than shortest_pause_s are filled, then speech shorter than
shortest_speech_s is dropped, then speech that would be longer than longest_speech_s is cut where its activity is least,
then pad_s is added on both sides, half the pause between two segments at most.

Not every window need be scored. A frame's state can only rise when a window's activity rises (with `on` at or above
`off`, and in floating point too, since sums are taken in a fixed order). So where the states with all missing
activities at 0 are those with all at 1, they are the same whatever the missing windows hold; `undecided` says where
they are not, and `choose_windows` which windows to score next. Missing activities are NaN.

Shapes: n windows, N frames.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

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
    longest_speech_s: float | None = None
    pad_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; activity is the mean of its hops, over the windows scored, 0.5 being the threshold."""

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


def windows_per_frame(rule: SegmentRule) -> int:
    """Return how many windows contain a frame."""
    return max(1, round(rule.window_s / rule.hop_s))


def frame_activity(windows: Floats, n_frames: int, rule: SegmentRule) -> Floats:
    """Return the activity of each frame, (n_frames,), from that of the windows (n,), n at least 1.

    Missing windows (NaN) do not count; a frame without any scored window is NaN.
    """
    per_window = windows_per_frame(rule)
    frames = np.arange(n_frames)
    first = np.clip(frames - per_window + 1, 0, windows.size - 1)
    last = np.clip(frames, 0, windows.size - 1)
    is_scored = ~np.isnan(windows)
    sums, counts = np.zeros(n_frames), np.zeros(n_frames)
    for nth in range(per_window):  # oldest first, as a live signal adds them up
        window = np.minimum(first + nth, last)
        counts_here = (first + nth <= last) & is_scored[window]
        sums += np.where(counts_here, windows[window], 0.0)
        counts += counts_here
    return np.asarray(np.divide(sums, counts, out=np.full(n_frames, np.nan), where=counts > 0))


def find_segments(windows: Floats, duration_s: float, rule: SegmentRule) -> list[Segment]:
    """Return the stretches of speech in a recording, in order, from the activity of its windows (n,).

    Raises ValueError where missing windows (NaN) leave it open which frames are speech.
    """
    n_frames = count_frames(duration_s, rule)
    if undecided(windows, n_frames, rule).any():
        raise ValueError("the missing windows leave it open which frames are speech; score those of choose_windows.")
    activity = frame_activity(windows, n_frames, rule)
    runs = _long_enough(
        _join(_runs(frame_states(windows, n_frames, rule)), rule.shortest_pause_s / rule.hop_s),
        rule.shortest_speech_s / rule.hop_s,
    )
    if rule.longest_speech_s is not None:
        longest = max(1, math.floor(round((rule.longest_speech_s - 2 * rule.pad_s) / rule.hop_s, 9)))
        runs = [part for run in runs for part in _cut(*run, activity, longest)]
    segments = [
        Segment(first * rule.hop_s, min(last * rule.hop_s, duration_s), float(np.nanmean(activity[first:last])))
        for first, last in runs
    ]
    middles = [(one.end_s + other.start_s) / 2 for one, other in pairwise(segments)]
    return [
        replace(one, start_s=max(one.start_s - rule.pad_s, least_s), end_s=min(one.end_s + rule.pad_s, most_s))
        for one, least_s, most_s in zip(segments, [0.0, *middles], [*middles, duration_s], strict=bool(segments))
    ]


def _cut(first: int, last: int, activity: Floats, longest: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a run, at most `longest` frames each, which end before the least active frame of their last
    half."""
    while last - first > longest:
        half = first + (longest + 1) // 2
        end = half + int(np.argmin(activity[half : first + longest + 1]))
        yield first, end
        first = end
    yield first, last


def frame_states(
    windows: Floats, n_frames: int, rule: SegmentRule, missing: float = 0.0, first: int = 0, was_speech: bool = False
) -> NDArray[np.bool_]:
    """Return whether each frame from number `first` on is speech, (n_frames - first,), from the activity of windows.

    missing: the activity of missing windows (NaN). was_speech: the state before frame `first`.
    """
    return hysteresis(_activity_with(windows, missing, n_frames, rule)[first:], rule, was_speech)


def _activity_with(windows: Floats, missing: float, n_frames: int, rule: SegmentRule) -> Floats:
    return frame_activity(np.where(np.isnan(windows), missing, windows), n_frames, rule)


def hysteresis(activity: Floats, rule: SegmentRule, was_speech: bool = False) -> NDArray[np.bool_]:
    """Return True from where activity (N,) reaches `on` until it falls below `off`; was_speech: before the first."""
    is_on, is_off = activity >= rule.on, activity < rule.off
    changes = np.flatnonzero(is_on | is_off)
    if changes.size == 0:
        return np.full(activity.size, was_speech)
    latest = np.searchsorted(changes, np.arange(activity.size), side="right") - 1
    return np.where(latest < 0, was_speech, is_on[changes[np.maximum(latest, 0)]])


def undecided(windows: Floats, n_frames: int, rule: SegmentRule) -> NDArray[np.bool_]:
    """Return for each frame whether its state depends on missing windows, (n_frames,)."""
    least, most = (frame_states(windows, n_frames, rule, missing) for missing in (0.0, 1.0))
    return np.asarray(least != most)


def choose_windows(
    windows: Floats, turns: NDArray[np.int_], n_frames: int, rule: SegmentRule, first: int = 0, was_speech: bool = False
) -> NDArray[np.int_]:
    """Return which missing windows to score next, ascending; none where every frame from `first` on is decided.

    windows: activity (n,), NaN where missing. turns (n,): of `window_turns`; a frame asks for its missing window of the
    earliest turn. was_speech: the state before frame `first`.

    An undecided frame may follow from an earlier one alone: what can begin keeps open everything up to the next clear
    end. So windows are chosen for the first open frames of a row of them (as many as two windows are long), and for
    those that are open whatever the state before them.
    """
    per_window = windows_per_frame(rule)
    least, most = (_activity_with(windows, missing, n_frames, rule)[first:] for missing in (0.0, 1.0))
    is_open = hysteresis(least, rule, was_speech) != hysteresis(most, rule, was_speech)
    begins = is_open & ~np.concatenate([[False], is_open[:-1]])
    is_near = np.convolve(begins, np.ones(2 * per_window))[: is_open.size] > 0
    may_change = (least < rule.on) & (most >= rule.on) & (least < rule.off) & (most >= rule.off)
    frames = first + np.flatnonzero(is_open & (is_near | may_change))
    inside = np.clip(frames[:, None] - np.arange(per_window), 0, windows.size - 1)
    turn = np.where(np.isnan(windows[inside]), turns[inside], per_window)
    next_one = np.take_along_axis(inside, turn.argmin(axis=1, keepdims=True), axis=1)[:, 0]
    return np.unique(next_one[turn.min(axis=1) < per_window])


def window_turns(numbers: NDArray[np.int_], rule: SegmentRule) -> NDArray[np.int_]:
    """Return the turns, from 0, in which windows of these numbers (n,) in the recording are scored.

    Every turn halves gaps that those before it left: of four windows a frame, 0, 2, 1, 3.
    """
    per_window = windows_per_frame(rule)
    n_bits = (per_window - 1).bit_length()
    reversed_bits = [int(f"0{place:0{n_bits}b}"[::-1], 2) >> 1 if n_bits else 0 for place in range(per_window)]
    return np.argsort(np.argsort(reversed_bits))[numbers % per_window]


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
