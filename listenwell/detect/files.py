"""Many recordings, one after another, with a journal: what was scored before a kill is not scored again.

The journal (listenwell.journal) lies beside the output: which recording (path, size, time), the number of a window and
the scores from it on. Scores are all that is dear; segments and tables follow from them in an instant. The journal goes
when the output is written. One process at a time writes an output.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import listenwell
from listenwell.data.audio import Waveform
from listenwell.detect.detector import Decision, Detector
from listenwell.detect.recordings import measure_duration, read_blocks
from listenwell.detect.segmentation import Floats, Segment, count_windows
from listenwell.errors import AudioError, ListenwellError
from listenwell.journal import HeldError, Journal
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import identity

LONGEST_CLIP_S = 4.0
"""Recordings up to this long are one clip unless the caller says otherwise; longer ones are cut into segments."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One recording: its whole-clip decision, or its segments, or why it could not be read.

    note: what its owner should know of an answer: that it is broken off, that one channel was taken.
    """

    path: Path
    duration_s: float
    decision: Decision | None = None
    segments: tuple[Segment, ...] = ()
    problem: str = ""
    note: str = ""


class Scores(Protocol):
    """Keeps window scores of a recording between calls."""

    def known(self, key: str) -> list[float]:
        """Scores kept so far."""

    def add(self, key: str, first: int, scores: Floats) -> None:
        """Keep the scores of the windows from number `first` on."""


class NoJournal:
    """Keeps nothing."""

    def known(self, key: str) -> list[float]:
        """No scores."""
        return []

    def add(self, key: str, first: int, scores: Floats) -> None:
        """Forget them."""


class ScoreJournal:
    """Keeps them on the disk. owner: the detector they belong to; output: what is written from them, to be named.

    Raises ListenwellError when another process keeps scores at the same path: it writes the same output.
    """

    def __init__(self, path: Path, owner: str, output: Path | None = None) -> None:
        try:
            self.journal = Journal(path, owner, is_alone=True)
        except HeldError as error:
            raise ListenwellError(
                f"{output or path}: another process writes it ({error.holder}); wait for it, or give another --out."
            ) from error

    def known(self, key: str) -> list[float]:
        """Scores kept by earlier runs, of the first windows without a gap; whole batches, as they were scored."""
        batches: dict[int, list[float]] = {}
        for value in self.journal.known(key):
            if _is_batch(value) and len(value["scores"]) > len(batches.get(value["first"], [])):
                batches[value["first"]] = value["scores"]
        scores: list[float] = []
        while batch := batches.get(len(scores)):
            scores += batch
        return scores

    def add(self, key: str, first: int, scores: Floats) -> None:
        """Keep the scores of the windows from number `first` on, on the disk."""
        self.journal.keep(key, {"first": first, "scores": scores.tolist()})


def _is_batch(value: Any) -> bool:
    """True for what `add` keeps; older versions kept the scores alone."""
    return (
        isinstance(value, dict)
        and type(value.get("first")) is int
        and isinstance(value.get("scores"), list)
        and all(isinstance(score, float) and math.isfinite(score) for score in value["scores"])
    )


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
            journal.add(key, len(scores), batch)
            scores += batch.tolist()
            if n_windows > 1:  # one line per clip would bury the count of recordings
                on_progress(path.name, min(len(scores), n_windows), n_windows)
    return np.array(scores)


def _key(path: Path, how: str) -> str:
    """The recording as it is now: a file that changed since is scored again."""
    state = path.stat()
    return f"{how} {path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def audio_seconds(heard: Sequence[Heard]) -> float:
    """Seconds of audio that could be read."""
    return sum(each.duration_s for each in heard)


def owner_of(detector: Detector) -> str:
    """What scores depend on besides the recording; the threshold is not among it."""
    bundle = detector.bundle
    return identity(
        version=listenwell.__version__,
        base=bundle.base_fingerprint,
        adapter=bundle.adapter_sha256,
        dtype=str(detector.model.dtype),
        prompt=bundle.prompt.model_dump(mode="json"),
        short_clips=bundle.short_clips.model_dump(mode="json"),
        windows=[bundle.rule.window_s, bundle.rule.hop_s],
    )
