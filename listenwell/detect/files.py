"""Many recordings, one after another, with a journal: what was scored before a kill is not scored again.

The journal (listenwell.journal) lies beside the output: which recording (path, size, time), and the scores of its next
windows. Scores are all that is dear; segments and tables follow from them in an instant. The journal goes when the
output is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from listenwell.data.audio import Waveform
from listenwell.detect.detector import Decision, Detector
from listenwell.detect.recordings import measure_duration, read_blocks
from listenwell.detect.segmentation import Floats, Segment, count_windows
from listenwell.errors import AudioError
from listenwell.journal import Journal
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import identity

LONGEST_CLIP_S = 4.0
"""Recordings up to this long are one clip unless the caller says otherwise; longer ones are cut into segments."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One recording: its whole-clip decision, or its segments, or why it could not be read."""

    path: Path
    duration_s: float
    decision: Decision | None = None
    segments: tuple[Segment, ...] = ()
    problem: str = ""


class Scores(Protocol):
    """Keeps window scores of a recording between calls."""

    def known(self, key: str) -> list[float]:
        """Scores kept so far."""

    def add(self, key: str, scores: Floats) -> None:
        """Keep the next scores."""


class NoJournal:
    """Keeps nothing."""

    def known(self, key: str) -> list[float]:
        """No scores."""
        return []

    def add(self, key: str, scores: Floats) -> None:
        """Forget them."""


class ScoreJournal:
    """Keeps them on the disk. owner: the detector they belong to."""

    def __init__(self, path: Path, owner: str) -> None:
        self.journal = Journal(path, owner)

    def known(self, key: str) -> list[float]:
        """Scores kept by earlier runs."""
        return [score for scores in self.journal.known(key) for score in scores]

    def add(self, key: str, scores: Floats) -> None:
        """Keep the next scores on the disk."""
        self.journal.keep(key, scores.tolist())


def detect_files(
    detector: Detector,
    paths: Sequence[Path],
    longest_clip_s: float = LONGEST_CLIP_S,
    journal: Scores | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Heard]:
    """Yield what is heard in each recording, in order; one that cannot be read is yielded with its problem.

    longest_clip_s: longer recordings are cut into segments; 0 segments every one, infinity decides every one whole.
    """
    kept = journal or NoJournal()
    for n_done, path in enumerate(paths):
        try:
            yield _detect_file(detector, path, longest_clip_s, kept, on_progress)
        except AudioError as error:
            yield Heard(path, 0.0, problem=str(error))
        on_progress("recordings", n_done + 1, len(paths))


def _detect_file(
    detector: Detector, path: Path, longest_clip_s: float, journal: Scores, on_progress: OnProgress
) -> Heard:
    duration_s = measure_duration(path)
    if duration_s <= longest_clip_s:
        scores = _score(journal, _key(path, "whole"), 1, lambda skip: _score_whole(detector, path), on_progress, path)
        return Heard(path, duration_s, decision=detector.decision(float(scores[0])))
    n_windows = count_windows(duration_s, detector.bundle.rule)
    scores = _score(
        journal, _key(path, "windows"), n_windows,
        lambda skip: detector.window_scores(read_blocks(path), skip), on_progress, path,
    )  # fmt: skip
    return Heard(path, duration_s, segments=tuple(detector.find_segments(scores, duration_s)))


def _score_whole(detector: Detector, path: Path) -> Iterator[Floats]:
    samples: Waveform = np.concatenate(list(read_blocks(path)))
    yield detector.scores([samples])


def _score(
    journal: Scores,
    key: str,
    n_windows: int,
    score_from: Callable[[int], Iterator[Floats]],
    on_progress: OnProgress,
    path: Path,
) -> Floats:
    """All window scores of a recording: those the journal knows, then the rest."""
    scores = list(journal.known(key))
    if len(scores) < n_windows:
        for batch in score_from(len(scores)):
            journal.add(key, batch)
            scores += batch.tolist()
            if n_windows > 1:  # one line per clip would bury the count of recordings
                on_progress(path.name, min(len(scores), n_windows), n_windows)
    return np.array(scores)


def _key(path: Path, how: str) -> str:
    """The recording as it is now: a file that changed since is scored again."""
    state = path.stat()
    return f"{how} {path.resolve()} {state.st_size} {state.st_mtime_ns}"


def audio_seconds(heard: Sequence[Heard]) -> float:
    """Seconds of audio that could be read."""
    return sum(each.duration_s for each in heard)


def owner_of(detector: Detector) -> str:
    """What scores depend on besides the recording; the threshold is not among it."""
    bundle = detector.bundle
    return identity(
        base=bundle.base_fingerprint,
        adapter=bundle.adapter_sha256,
        dtype=str(detector.model.dtype),
        prompt=bundle.prompt.model_dump(mode="json"),
        short_clips=bundle.short_clips.model_dump(mode="json"),
        windows=[bundle.rule.window_s, bundle.rule.hop_s],
    )
