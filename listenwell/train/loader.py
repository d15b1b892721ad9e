"""Clips prepared ahead of training, in worker processes: recording, plan, waveform as heard, log-mel.

Every draw is keyed by (seed, epoch, clip), so neither who prepares a clip nor when changes a bit: 0 workers (this
process does it) or any number give the same training. No more clips are held than the caller named: the batch it wants
and those it says come next. A worker that dies is replaced; a recording on which workers die is named. Knows nothing of
torch, so that a worker starts in a second and stays small.

Which clips an epoch hears, and in which order.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from listenwell.augment.plan import AugmentConfig, Plan, apply_plan, draw_plan
from listenwell.data.audio import Waveform, load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import AudioWarning, TrainingError
from listenwell.model.mel import LogMel, ShortClipConfig, hear, log_mel
from listenwell.random_streams import stream


def draw_epoch(clips: Sequence[Clip], n_clips: int, seed: int, epoch: int) -> list[Clip]:
    """The clips of one epoch in the order they are heard.

    All clips shuffled when n_clips takes them all; otherwise half of each label, the groups of a label taking turns.
    """
    rng = stream(seed, "order", epoch)
    if n_clips >= len(clips):
        return [clips[i] for i in rng.permutation(len(clips))]
    drawn: list[Clip] = []
    for label, n_wanted in zip(LABELS, (n_clips - n_clips // 2, n_clips // 2), strict=True):
        drawn += _take_turns([clip for clip in clips if clip.label == label], n_wanted, rng)
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _take_turns(clips: Sequence[Clip], n_wanted: int, rng: np.random.Generator) -> list[Clip]:
    by_group: dict[str, list[Clip]] = {}
    for index in rng.permutation(len(clips)):
        by_group.setdefault(clips[index].group, []).append(clips[index])
    groups = [by_group[group] for group in sorted(by_group)]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    taken: list[Clip] = []
    while len(taken) < n_wanted and any(groups):
        taken += [group.pop() for group in groups if group][: n_wanted - len(taken)]
    return taken


@dataclass(frozen=True, slots=True)
class Source:
    """What a fit's clips are prepared with."""

    augment: AugmentConfig
    seed: int
    bank: BackgroundBank


@dataclass(frozen=True, slots=True)
class Ear:
    """What every clip of a stack is heard with; mel_filters (201, F)."""

    mel_filters: NDArray[np.float32]
    short_clips: ShortClipConfig

    def log_mel(self, samples: Waveform) -> LogMel:
        """Spectrogram of one waveform (n_samples,)."""
        return log_mel(samples, self.mel_filters)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip as one epoch of a fit hears it; source: the fit's place among the loader's sources."""

    source: int
    clip: Clip
    epoch: int


@dataclass(frozen=True, slots=True)
class PreparedClip:
    """One clip of a batch: what was planned, and the spectrogram that comes of it."""

    clip: Clip
    plan: Plan
    mel: LogMel

    @property
    def is_speech(self) -> bool:
        """True where the label is SPEECH."""
        return self.clip.label == "SPEECH"


def prepare(wanted: Wanted, source: Source, ear: Ear) -> PreparedClip:
    """Load the clip, draw its plan and make what is heard. Raises AudioError when a recording cannot be read."""
    clip, bank = wanted.clip, source.bank
    samples = load_waveform(clip)
    n_mels = ear.mel_filters.shape[1]
    plan = draw_plan(source.augment, clip, samples, bank.entries, n_mels, source.seed, wanted.epoch)
    heard = apply_plan(samples, plan, bank.load)
    return PreparedClip(clip, plan, hear(ear, heard, ear.short_clips, plan.masks))


class ClipLoader:
    """Prepares clips with `workers` processes, or in this one when there are none; a context manager.

    Fits whose policy, seed and bank are the same share a source, and so every prepared clip.
    """

    def __init__(self, sources: Sequence[Source], ear: Ear, workers: int) -> None:
        self.sources, self.ear, self.workers = sources, ear, workers
        self._pool: ProcessPoolExecutor | None = None
        self._underway: dict[Wanted, Future[PreparedClip]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def load(self, wanted: Sequence[Wanted], ahead: Iterable[Wanted] = ()) -> list[PreparedClip]:
        """Return the prepared clips in the order of `wanted`; workers go on with those of `ahead` meanwhile.

        Raises TrainingError naming the clip when the processes that prepare it die.
        """
        if self.workers == 0:
            made = {each: prepare(each, self.sources[each.source], self.ear) for each in dict.fromkeys(wanted)}
            return [made[each] for each in wanted]
        self._ask(dict.fromkeys([*wanted, *ahead]))
        done = {each: self._wait_for(each) for each in dict.fromkeys(wanted)}
        for each in done:
            del self._underway[each]
        return [done[each] for each in wanted]

    def _ask(self, named: Iterable[Wanted]) -> None:
        """Hand out what is new and forget what nobody names any more."""
        kept = list(named)
        for gone in self._underway.keys() - set(kept):
            self._underway.pop(gone).cancel()
        for each in kept:
            if each not in self._underway:
                self._underway[each] = self._submit(each)

    def _submit(self, wanted: Wanted) -> "Future[PreparedClip]":
        if self._pool is None:
            self._pool = _new_pool(self.workers, self.sources, self.ear)
        try:
            return self._pool.submit(_prepare_in_worker, wanted)
        except BrokenProcessPool:
            self._replace_workers()
            return self._submit(wanted)

    def _wait_for(self, wanted: Wanted) -> PreparedClip:
        try:
            return self._underway[wanted].result()
        except BrokenProcessPool:
            self._replace_workers()
            return self._wait_for(wanted)

    def _replace_workers(self) -> None:
        """New workers for what is left, one clip at a time first for those that may have killed the others."""
        self._close()
        left = [each for each, future in self._underway.items() if not _is_done(future)]
        suspects, rest = left[: self.workers], left[self.workers :]
        for suspect in suspects:
            with _new_pool(1, self.sources, self.ear) as alone:
                self._underway[suspect] = future = alone.submit(_prepare_in_worker, suspect)
                if isinstance(future.exception(), BrokenProcessPool):
                    raise TrainingError(
                        f"clip '{suspect.clip.clip_id}' ({suspect.clip.path}): two processes that prepared it in epoch "
                        f"{suspect.epoch} died; check this recording and the backgrounds, or the memory that is left."
                    )
        names = ", ".join(suspect.clip.clip_id for suspect in suspects)
        print(f"listenwell: warning: a process died while clips were prepared ({names}); replaced.", file=sys.stderr)
        self._pool = _new_pool(self.workers, self.sources, self.ear)
        for each in rest:
            self._underway[each] = self._pool.submit(_prepare_in_worker, each)

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _is_done(future: "Future[PreparedClip]") -> bool:
    """True when there is a result, or an error of the clip's own, to be raised when it is asked for."""
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


def _new_pool(workers: int, sources: Sequence[Source], ear: Ear) -> ProcessPoolExecutor:
    """Processes forked from a small clean one, so that no thread of torch's is copied half alive."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, _begin_worker, (sources, ear))


_given: tuple[Sequence[Source], Ear] | None = None
"""In a worker: what it was started with."""


def _begin_worker(sources: Sequence[Source], ear: Ear) -> None:
    """Leave Ctrl-C to the training process, compute on one thread, and end when that process ends."""
    warnings.simplefilter("ignore", AudioWarning)  # the training process has said them
    global _given
    _given = (sources, ear)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _prepare_in_worker(wanted: Wanted) -> PreparedClip:
    if _given is None:
        raise TrainingError("a worker was asked for a clip before it was started; this is a fault of listenwell.")
    sources, ear = _given
    return prepare(wanted, sources[wanted.source], ear)
