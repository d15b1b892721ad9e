"""The windows of a recording that decide where speech is; the others are not scored.

Neighbouring windows overlap, so a few of them often decide a frame whatever the others would score
(listenwell.detect.segmentation: of four windows a frame two clear ones for NONSPEECH, three for SPEECH). A recording is
taken stretch by stretch, and a stretch in rounds: each scores one more window of the frames that are undecided, until
none is. So the segments begin and end where those of all windows do.

Which windows are scored together follows from the scores, the threshold and the rule alone, not from the number of
workers or from where a killed run goes on. Memory is one stretch. Knows nothing of models and files.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from listenwell.data.audio import Waveform
from listenwell.detect.segmentation import (
    Floats,
    SegmentRule,
    choose_windows,
    frame_states,
    window_turns,
    windows_per_frame,
)

STRETCH = 1024
"""Windows of a stretch, of 256 s at a hop of 0.25 s: enough for sixteen full batches in a round."""

Scorer = Callable[[Iterable[Sequence[Waveform]]], Iterator[Floats]]
"""Batches of windows -> the scores (n,) of each, in order."""


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Windows scored together: their numbers in the recording and their scores, (n,) each.

    n_passed: how many windows of the recording are scored by now, or lie unscored in a stretch that is done.
    """

    numbers: tuple[int, ...]
    scores: Floats
    n_passed: int


class DecidingScores:
    """The scores that decide where speech is, batch by batch; iterate once.

    Afterwards `scores` (n,) holds those of all n windows, NaN where a window was not needed.
    """

    def __init__(
        self,
        windows: Iterable[Waveform],
        score: Scorer,
        activity: Callable[[Floats], Floats],
        rule: SegmentRule,
        batch: int,
        known: Mapping[int, float] | None = None,
        stretch: int = STRETCH,
    ) -> None:
        """windows: of the whole recording, in order. activity: of scores (n,). batch: the most windows scored together.
        known: scores by number of window; a batch of which all are known is neither scored nor yielded. stretch: its
        windows."""
        self.scores: Floats = np.empty(0)
        self._windows, self._score, self._activity = iter(windows), score, activity
        self._rule, self._batch, self._known = rule, batch, known or {}
        self._stretch = stretch

    def __iter__(self) -> Iterator[ScoredBatch]:
        n_shared = windows_per_frame(self._rule) - 1
        before: list[Waveform] = []
        was_speech = is_over = False
        while not is_over:
            new = list(itertools.islice(self._windows, self._stretch))
            is_over = len(new) < self._stretch
            self.scores = np.concatenate([self.scores, np.full(len(new), np.nan)])
            waveforms = [*before, *new]
            if not waveforms:  # the stretch before ended where the recording does, and windows share no frame
                return
            # frames behind the last window lie in fewer windows
            n_frames = len(waveforms) + (n_shared + 1 if is_over else 0)
            yield from self._decide(waveforms, n_frames, len(before), was_speech)
            states = frame_states(
                self._activity_of(len(waveforms)), n_frames, self._rule, first=len(before), was_speech=was_speech
            )
            was_speech = bool(states[len(new) - 1])
            before = waveforms[max(0, len(waveforms) - n_shared) :]

    def _decide(
        self, waveforms: Sequence[Waveform], n_frames: int, first_frame: int, was_speech: bool
    ) -> Iterator[ScoredBatch]:
        """Score windows among the last len(waveforms) until every frame from first_frame on is decided."""
        n, first = len(waveforms), self.scores.size - len(waveforms)
        turns = window_turns(first + np.arange(n), self._rule)
        while True:
            chosen = choose_windows(self._activity_of(n), turns, n_frames, self._rule, first_frame, was_speech)
            if not chosen.size:
                return
            fresh = []
            for numbers in (part.tolist() for part in np.array_split(first + chosen, -(-chosen.size // self._batch))):
                if all(number in self._known for number in numbers):
                    self.scores[numbers] = [self._known[number] for number in numbers]
                else:
                    fresh.append(numbers)
            results = self._score([waveforms[number - first] for number in numbers] for numbers in fresh)
            for numbers, scores in zip(fresh, results, strict=True):
                self.scores[numbers] = scores
                n_scored = int(np.isfinite(self.scores[first + first_frame :]).sum())
                yield ScoredBatch(tuple(numbers), scores, first + first_frame + n_scored)

    def _activity_of(self, n: int) -> Floats:
        """Activity of the last n windows, NaN where one is not scored."""
        return self._activity(self.scores[self.scores.size - n :])
