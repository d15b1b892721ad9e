"""Which clips an epoch takes, and those clips prepared ahead of training, in worker processes.

    recording, plan -> augmented waveform -> log-mel
Every draw is keyed by (seed, epoch, clip), so neither who prepares a clip nor when changes a bit: 0 workers (this
process does it) or any number give the same training. No more clips are held than the caller requested: the batch it
takes now and those it says come next. Knows nothing of torch, so that a worker starts in a second and stays small.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from listenwell.augment.plan import AugmentConfig, Plan, apply_plan, draw_plan
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import AudioWarning, TrainingError
from listenwell.model.mel import LogMel, ShortClipConfig, extract_features
from listenwell.random_streams import stream


def draw_epoch(clips: Sequence[Clip], n_clips: int, seed: int, epoch: int) -> list[Clip]:
    """The clips of one epoch, in order.

    All clips shuffled when n_clips takes them all; otherwise half of each label, the groups of a label taking turns.
    """
    rng = stream(seed, "order", epoch)
    if n_clips >= len(clips):
        return [clips[i] for i in rng.permutation(len(clips))]
    drawn: list[Clip] = []
    for label, n_wanted in zip(LABELS, (n_clips - n_clips // 2, n_clips // 2), strict=True):
        drawn += _take_turns([clip for clip in clips if clip.label == label], n_wanted, rng)
    return [drawn[i] for i in rng.permutation(len(drawn))]


def draw_some(clips: Sequence[Clip], n_clips: int | None, seed: int) -> list[Clip]:
    """All clips as they come where n_clips is None or takes them all, otherwise so many drawn as for an epoch."""
    return list(clips) if n_clips is None or n_clips >= len(clips) else draw_epoch(clips, n_clips, seed, 0)


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
class ClipRequest:
    """A clip in one epoch of a fit; source: the fit's place among the loader's sources."""

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


@dataclass(frozen=True, slots=True)
class _Preparation:
    """What clips become spectrograms with; mel_filters (201, F)."""

    sources: Sequence[Source]
    mel_filters: NDArray[np.float32]
    short_clips: ShortClipConfig

    def prepare(self, request: ClipRequest) -> PreparedClip:
        """Load the clip, draw its plan and apply it. Raises AudioError when a recording cannot be read."""
        clip, source = request.clip, self.sources[request.source]
        samples, n_mels = load_waveform(clip), self.mel_filters.shape[1]
        plan = draw_plan(source.augment, clip, samples, source.bank.entries, n_mels, source.seed, request.epoch)
        augmented = apply_plan(samples, plan, source.bank.load)
        return PreparedClip(clip, plan, extract_features(self.mel_filters, augmented, self.short_clips, plan.masks))


class ClipLoader(AbstractContextManager["ClipLoader"]):
    """Prepares clips with `workers` processes, or in this one when there are none; a context manager.

    Fits whose policy, seed and bank are the same share a source, and so every prepared clip.
    """

    def __init__(
        self, sources: Sequence[Source], mel_filters: NDArray[np.float32], short_clips: ShortClipConfig, workers: int
    ) -> None:
        self.workers = workers
        self._preparation = _Preparation(sources, mel_filters, short_clips)
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[ClipRequest, Future[PreparedClip]] = {}

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def load(self, requests: Sequence[ClipRequest], ahead: Iterable[ClipRequest] = ()) -> list[PreparedClip]:
        """Return the prepared clips in the order of `requests`; workers go on with those of `ahead` meanwhile.

        Raises TrainingError naming the clips under preparation when a process dies.
        """
        different = dict.fromkeys(requests)
        if self.workers == 0:
            prepared = {request: self._preparation.prepare(request) for request in different}
        else:
            wanted = dict.fromkeys([*requests, *ahead])
            for request in self._pending.keys() - wanted.keys():
                self._pending.pop(request).cancel()
            pool = self._pool = self._pool or _new_pool(self.workers, self._preparation)
            new = [request for request in wanted if request not in self._pending]
            try:
                self._pending |= {request: pool.submit(_prepare_in_worker, request) for request in new}
                prepared = {request: self._pending.pop(request).result() for request in different}
            except BrokenProcessPool as error:
                names = ", ".join(f"'{request.clip.clip_id}' ({request.clip.path})" for request in wanted)
                raise TrainingError(
                    f"a process died while it prepared one of the clips {names}; check the memory that is left and "
                    "these recordings, then run the same command to go on."
                ) from error
        return [prepared[request] for request in requests]


def _new_pool(workers: int, preparation: _Preparation) -> ProcessPoolExecutor:
    """Processes forked from a small clean one, so that no thread of torch's is copied half alive."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, _begin_worker, (preparation,))


_in_worker: list[_Preparation] = []
"""In a worker: what it was started with."""


def _begin_worker(preparation: _Preparation) -> None:
    """Leave Ctrl-C to the training process, compute on one thread, and end when that process ends."""
    warnings.simplefilter("ignore", AudioWarning)  # the training process has said them
    _in_worker.append(preparation)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _prepare_in_worker(request: ClipRequest) -> PreparedClip:
    return _in_worker[0].prepare(request)
