"""Many recordings, one after another, with a journal: what was scored before a kill is not scored again.

The journal lies beside the output: which recording (path, size, time), the number of a window and
the scores from it on, and at its end how long it was. Scores are all that is dear; segments and tables follow from them
in an instant. The journal goes when the output is written. One process at a time writes an output.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import listenwell
from listenwell.data.audio import Waveform
from listenwell.data.decoding import open_recording
from listenwell.detect.detector import Decision, Detector
from listenwell.detect.recordings import join_blocks, open_blocks
from listenwell.detect.segmentation import Floats, Segment, count_windows
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.load_or_make import Journal
from listenwell.storage.run_folder import identity

LONGEST_CLIP_S = 4.0
"""Recordings up to this long are one clip unless the caller says otherwise; longer ones are cut into segments."""
JOURNAL_VERSION = 2
"""Raised when entries of a journal change."""
MOST_CLIPS, MOST_SECONDS = 128, 256.0
"""So many clips, or seconds of them, are held in memory to be scored together."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One recording: its whole-clip decision, or its segments, or why it could not be read.

    note: what its owner should know of an answer: that it is broken off, that one channel was taken. channel: the one
    decided, from 0, where each is; None for all together.
    """

    path: Path
    duration_s: float
    decision: Decision | None = None
    segments: tuple[Segment, ...] = ()
    problem: str = ""
    note: str = ""
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """What is known of a recording that was decoded to its end."""

    duration_s: float
    note: str
    n_windows: int


class ScoreJournal:
    """Keeps the scores of recordings' windows on the disk; nothing where path is None.

    owner: the detector they belong to.
    """

    def __init__(self, path: Path | None = None, owner: str = "") -> None:
        self.journal = None if path is None else Journal(path, owner)

    def known(self, key: str) -> dict[int, float]:
        """Scores kept by earlier runs, by number of window."""
        known: dict[int, float] = {}
        for value in self._values(key):
            if "windows" in value:
                known |= zip(value["windows"], value["scores"], strict=True)
        return known

    def end(self, key: str) -> End | None:
        """What was kept of the recording's end; None before it was reached."""
        for value in self._values(key):
            if "duration_s" in value:
                return End(**value)
        return None

    def add(self, key: str, windows: Sequence[int], scores: Floats) -> None:
        """Keep the scores (n,) of the windows with these numbers."""
        self.keep(key, {"windows": list(windows), "scores": scores.tolist()})

    def keep(self, key: str, value: dict[str, Any]) -> None:
        """Keep something known of a recording."""
        if self.journal is not None:
            self.journal.keep(key, value)

    def remove(self) -> None:
        """Delete what was kept: the output is written."""
        if self.journal is not None:
            self.journal.remove()

    def _values(self, key: str) -> list[Any]:
        return [] if self.journal is None else self.journal.known(key)


@dataclass(frozen=True, slots=True)
class _Clip:
    """A recording that is decided whole, with others; samples, or the score that an earlier run kept.

    shown: Detection.channel.
    """

    path: Path
    channel: int | None
    key: str
    end: End
    samples: Waveform | None = None
    score: float | None = None
    shown: int | None = None


def detect_files(
    detector: Detector,
    paths: Sequence[Path],
    longest_clip_s: float = LONGEST_CLIP_S,
    journal: ScoreJournal | None = None,
    on_progress: OnProgress = ignore_progress,
    each_channel: bool = False,
) -> Iterator[Detection]:
    """Yield what is detected in each recording, in order; one that cannot be read is yielded with its problem.

    longest_clip_s: longer recordings are cut into segments; 0 segments every one, infinity decides every one whole.
    each_channel: an answer for each channel of a recording.

    Recordings that follow each other and are decided whole are scored together. Which ones follows from the recordings
    alone: where one of them has to be scored after a kill, all of them are.
    """
    journal = journal or ScoreJournal()
    waiting: list[_Clip] = []
    for n_done, path in enumerate(paths):
        for found in _detect_channels(detector, path, longest_clip_s, journal, on_progress, each_channel):
            if isinstance(found, _Clip):
                waiting.append(found)
            waiting_s = sum(clip.end.duration_s for clip in waiting)
            if isinstance(found, Detection) or len(waiting) >= MOST_CLIPS or waiting_s >= MOST_SECONDS:
                yield from _decide_clips(detector, waiting, journal)
                waiting = []
            if isinstance(found, Detection):
                yield found
        on_progress("recordings", n_done + 1, len(paths))
    yield from _decide_clips(detector, waiting, journal)


def _detect_channels(
    detector: Detector,
    path: Path,
    longest_clip_s: float,
    journal: ScoreJournal,
    on_progress: OnProgress,
    each_channel: bool,
) -> Iterator[Detection | _Clip]:
    try:
        for channel in _channels(path) if each_channel else [detector.channel]:
            found = _detect_file(detector, path, channel, longest_clip_s, journal, on_progress)
            if not each_channel:
                yield found
            elif isinstance(found, _Clip):
                yield replace(found, shown=channel)
            else:
                yield replace(found, channel=channel)
    except AudioError as error:
        yield Detection(path, 0.0, problem=str(error))


def _decide_clips(detector: Detector, clips: Sequence[_Clip], journal: ScoreJournal) -> Iterator[Detection]:
    """Score the clips together, unless the scores of all are known, and yield their decisions."""
    scores: list[float | AudioError] = [clip.score for clip in clips if clip.score is not None]
    if len(scores) < len(clips):
        scores = _score_clips(detector, clips)
    for clip, score in zip(clips, scores, strict=True):
        if isinstance(score, AudioError):
            yield Detection(clip.path, 0.0, problem=str(score), channel=clip.shown)
            continue
        if clip.score is None:
            journal.add(clip.key, [0], np.array([score]))
            journal.keep(clip.key, asdict(clip.end))
        decision = detector.decision(score)
        yield Detection(clip.path, clip.end.duration_s, decision=decision, note=clip.end.note, channel=clip.shown)


def _score_clips(detector: Detector, clips: Sequence[_Clip]) -> list[float | AudioError]:
    """The score of each clip, or why it has none."""
    try:
        waveforms = [_read_again(clip) if clip.samples is None else clip.samples for clip in clips]
        return [float(score) for score in detector.clip_scores(waveforms)]
    except AudioError as error:  # of one that is too long to be decided whole
        if len(clips) == 1:
            return [error]
        return [score for clip in clips for score in _score_clips(detector, [clip])]


def _read_again(clip: _Clip) -> Waveform:
    with open_blocks(clip.path, clip.channel) as blocks:
        return join_blocks(str(clip.path), blocks)


def _channels(path: Path) -> list[int]:
    if not path.is_file():
        raise AudioError(
            f"{path}: a stream can be decoded once only, so not channel by channel; give one channel, or a file."
        )
    with open_recording(path) as recording:
        return list(range(recording.n_channels))


def _detect_file(
    detector: Detector,
    path: Path,
    channel: int | None,
    longest_clip_s: float,
    journal: ScoreJournal,
    on_progress: OnProgress,
) -> Detection | _Clip:
    whole, windows = (_key(path, how, channel) for how in ("whole", "windows"))
    for key, is_whole in ((whole, True), (windows, False)):
        end = journal.end(key)
        if end is not None and (end.duration_s <= longest_clip_s) == is_whole:
            scores, known = np.full(end.n_windows, np.nan), journal.known(key)
            scores[list(known)] = list(known.values())
            if is_whole and known:
                return _Clip(path, channel, key, end, score=known[0])
            if not is_whole and detector.is_decided(scores, end.duration_s):
                return _answer(detector, path, scores, end)
    with open_blocks(path, channel) as blocks:
        source = iter(blocks)
        start: list[Waveform] = []
        while blocks.duration_s <= longest_clip_s and (block := next(source, None)) is not None:
            start.append(block)
        if blocks.duration_s <= longest_clip_s:
            samples = join_blocks(str(path), start)
            return _Clip(path, channel, whole, End(blocks.duration_s, blocks.note, 1), samples)
        promised_s = blocks.recording.promised_s
        n_expected = count_windows(promised_s, detector.bundle.rule) if promised_s else 0
        with detector.deciding_scores(itertools.chain(start, source), journal.known(windows)) as deciding:
            for batch in deciding:
                journal.add(windows, batch.numbers, batch.scores)
                on_progress(path.name, batch.n_passed, max(n_expected, batch.n_passed + 1))
        end = End(blocks.duration_s, blocks.note, deciding.scores.size)
        on_progress(path.name, end.n_windows, end.n_windows)
    journal.keep(windows, asdict(end))
    return _answer(detector, path, deciding.scores, end)


def _answer(detector: Detector, path: Path, scores: Floats, end: End) -> Detection:
    segments = tuple(detector.find_segments(scores, end.duration_s))
    return Detection(path, end.duration_s, segments=segments, note=end.note)


def _key(path: Path, how: str, channel: int | None) -> str:
    """The recording as it is now: a file that changed since is scored again, and a stream always."""
    if not path.is_file():
        return f"{how} {path} {time.time_ns()}"
    state = path.stat()
    which = "" if channel is None else f" channel {channel}"
    return f"{how} {path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}{which}"


def owner_of(detector: Detector) -> str:
    """What scores depend on besides the recording.

    Not the threshold and the rule's `on` and `off`: they decide which windows are scored together, which moves a score
    by rounding alone.
    """
    bundle = detector.bundle
    return identity(
        version=[listenwell.__version__, JOURNAL_VERSION],
        base=bundle.base_fingerprint,
        adapter=bundle.adapter_sha256,
        dtype=str(detector.model.dtype),
        prompt=bundle.prompt.model_dump(mode="json"),
        short_clips=bundle.short_clips.model_dump(mode="json"),
        windows=[bundle.rule.window_s, bundle.rule.hop_s],
    )
