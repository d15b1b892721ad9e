"""The one training loop: a stack of fits over one frozen base.

A fit is one adapter trained once. In a stack there is one forward and one backward pass for all, row k of the packed
batch being fit k's clips; each fit has its own clips, order, plans, dropout stream, optimiser and schedule, and leaves
when it ends. Out of memory splits the fits in two groups, for good: the groups take turns, which changes results within
rounding only. The loss is the answer's alone: the cross-entropy over the two answers, which is the logistic loss of
s = logit(SPEECH) - logit(NONSPEECH), or over the whole vocabulary where asked. The best epoch is the one with the
lowest logistic loss on the dev clips, each under one fixed plan, whatever shift and scale the threshold and the map to
probabilities will give its scores (evaluate.probabilities.calibrated_loss).

Ctrl-C and SIGTERM let the step end, then save; a second one stops at once, and what was saved before stays. Exit status
130 after Ctrl-C, 143 after SIGTERM, as shells expect (128 + the signal's number).
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.errors import ListenwellError, TrainingError
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig
from listenwell.model.parallel import numpy_on_one_thread, return_freed_memory
from listenwell.model.prompt import Prompt
from listenwell.train.checkpoint import Checkpoints, FitState
from listenwell.train.fit_log import FitLog
from listenwell.train.fit_underway import DEV_BATCH_SECONDS, DevSet, FitSpec, FitUnderway, Progress
from listenwell.train.loader import ClipLoader, PreparedClip, Source

BATCHES_AHEAD = 2
"""Batches of every fit that workers prepare while the model computes."""

Batch = Sequence[PreparedClip]
Fits = Sequence[FitUnderway]


@dataclass(frozen=True, slots=True)
class FitResult:
    """The adapter of the best epoch, that epoch (from 1), steps taken, and one record per epoch.

    was_dropped: Watch.keep_going ended the fit before its last epoch.
    """

    name: str
    adapter: Adapter
    best_epoch: int
    n_steps: int
    history: list[dict[str, Any]]
    was_dropped: bool = False


@dataclass(frozen=True, slots=True)
class FailedFit:
    """A fit that was stopped because a loss or gradient left the finite numbers; the others of its stack went on."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a fit of the stack has come: one record per epoch, whether it ended of itself, and whether it failed.

    A fit ends of itself after its last epoch, when dev is no better, or by failing; one that was dropped did not.
    """

    history: Sequence[Mapping[str, Any]]
    has_ended: bool
    has_failed: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Training callbacks: who learns of steps, who may end a fit, what is written meanwhile.

    logs: one per fit, in the order of the specs, or none.
    keep_going(name, standings) is called after every epoch but a fit's last, once all fits have taken their batch of
    the round; standings say how far each fit of the stack has come. False drops the fit, the others go on. The answer
    is in the next checkpoint, so a resumed stack calls again only about epochs that ended after it.
    """

    on_step: Callable[[Progress], None] = lambda progress: None
    logs: Sequence[FitLog] = ()
    checkpoints: Checkpoints | None = None
    keep_going: Callable[[str, Mapping[str, Standing]], bool] = lambda name, standings: True


class StoppedError(ListenwellError):
    """Training was asked to stop; what was done is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


def train(
    model: AudioLanguageModel,
    prompt: Prompt,
    short_clips: ShortClipConfig,
    specs: Sequence[FitSpec],
    dev: Sequence[DevSet],
    watch: Watch | None = None,
) -> list[FitResult | FailedFit]:
    """Train the stack of `specs` and return their results in the same order; dev: one set per fit.

    With checkpoints, it goes on from the newest good one, and saves when Ctrl-C or SIGTERM stops it (StoppedError).
    Raises TrainingError when one fit alone does not fit into memory, ConfigError when a warm-up is longer than its run.
    """
    watch = watch or Watch()
    if any(spec.train.gradient_checkpointing for spec in specs):
        return_freed_memory()
    sources: list[Source] = []
    for spec in specs:
        if spec.source not in sources:
            sources.append(spec.source)
    logs = watch.logs or [FitLog() for _ in specs]
    fits = [
        FitUnderway(model, spec, dev_set, log, sources.index(spec.source), watch.on_step)
        for spec, dev_set, log in zip(specs, dev, logs, strict=True)
    ]
    n_workers = max(spec.train.workers for spec in specs)
    with (
        numpy_on_one_thread(),
        stop_signal() as stopped_by,
        ClipLoader(sources, model.mel_filters, short_clips, n_workers) as loader,
    ):
        stack = Stack(model, prompt, loader, fits)
        n_rounds = _resume(stack, watch.checkpoints)
        while any(not fit.is_done for fit in fits):
            stack.take_round()
            _drop(fits, watch)
            n_rounds += 1
            if number := stopped_by():
                raise _stopped(stack, n_rounds, watch.checkpoints, number)
            if watch.checkpoints is not None and n_rounds % watch.checkpoints.every_steps == 0:
                _save(stack, n_rounds, watch.checkpoints)
        if watch.checkpoints is not None:
            # a kill before the adapters are written trains nothing again
            _save(stack, n_rounds, watch.checkpoints)
    return [_result(fit) for fit in fits]


@contextmanager
def stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the number of the SIGINT or SIGTERM that came within the block, None before.

    Outside the main thread signals are not ours: none is seen.
    """
    received: list[int] = []

    def note(signal_number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal_number)
        print("\nlistenwell: finishing this step, then saving; once more to stop at once.", file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop(fits: Sequence[FitUnderway], watch: Watch) -> None:
    """Ask about every fit that ended an epoch in this round and has more to come."""
    standings = {
        fit.spec.name: Standing(
            fit.position.history, fit.is_done and not fit.position.was_dropped, fit.position.failure is not None
        )
        for fit in fits
    }
    for fit in fits:
        is_between_epochs = fit.position.n_batches_in_epoch == 0 and not fit.is_done
        if is_between_epochs and not watch.keep_going(fit.spec.name, standings):
            fit.position.was_dropped = True


def _resume(stack: "Stack", checkpoints: Checkpoints | None) -> int:
    """Go on as the newest good checkpoint says; returns the rounds taken so far, 0 at the start."""
    newest = None if checkpoints is None else checkpoints.newest()
    if newest is None:
        for fit in stack.fits:
            fit.log.rewind(0, 0)
        return 0
    n_rounds, states = newest
    stack.restore(states)
    return n_rounds


def _save(stack: "Stack", n_rounds: int, checkpoints: Checkpoints) -> None:
    states = stack.states()
    for fit in stack.fits:
        fit.log.flush()
    checkpoints.save(n_rounds, states)


def _stopped(stack: "Stack", n_rounds: int, checkpoints: Checkpoints | None, signal_number: int) -> StoppedError:
    place = ", ".join(f"'{fit.spec.name}' at step {fit.position.step} of {fit.optimizer.n_steps}" for fit in stack.fits)
    if checkpoints is None:
        message = f"training stopped ({place}); nothing was saved, no checkpoints were asked for."
    else:
        _save(stack, n_rounds, checkpoints)
        message = f"training stopped and saved ({place}); run the same command to go on from there."
    return StoppedError(message, signal_number)


def _result(fit: FitUnderway) -> FitResult | FailedFit:
    at = fit.position
    if at.failure is not None or fit.best is None:
        return FailedFit(fit.spec.name, at.failure or "it ended without an epoch")
    return FitResult(fit.spec.name, fit.best.adapter, fit.best.epoch, at.step, list(at.history), at.was_dropped)


class Stack:
    """groups: the fits that go through the model together; one group until memory runs out."""

    def __init__(self, model: AudioLanguageModel, prompt: Prompt, loader: ClipLoader, fits: Fits) -> None:
        self.model, self.prompt, self.loader, self.fits = model, prompt, loader, fits
        self.groups: list[Fits] = [fits]

    def take_round(self) -> None:
        """One batch of every fit that is not done, and the end of its epoch where that was the last batch.

        Raises TrainingError when the batch of one fit alone does not fit into memory.
        """
        self.groups = [left for group in self.groups if (left := [fit for fit in group if not fit.is_done])]
        for fits in tuple(self.groups):
            requests = [fit.next_batch() for fit in fits]
            ahead = [request for fit in self.fits for request in fit.look_ahead(BATCHES_AHEAD)]
            prepared = iter(self.loader.load([request for batch in requests for request in batch], ahead))
            batches = [[next(prepared) for _ in batch] for batch in requests]
            for fit, batch in zip(fits, batches, strict=True):
                fit.log.add_plans(item.plan for item in batch)
            self._learn(fits, batches)
            for fit in fits:
                if not fit.upcoming and fit.position.failure is None:
                    fit.end_epoch(self._dev_scores(fit))

    def _learn(self, fits: Fits, batches: Sequence[Batch]) -> None:
        """Forward, backward and steps of the fits together; in two groups where memory does not hold all."""
        try:
            losses, gradients = self._losses_and_gradients(fits, batches)
        except torch.OutOfMemoryError as error:
            if len(fits) == 1:
                raise TrainingError(
                    f"fit '{fits[0].spec.name}': one batch of {len(batches[0])} clips does not fit into memory; lower "
                    "train.batch and raise train.accumulation, or set train.gradient_checkpointing."
                ) from error
        else:
            for fit, batch, loss, gradient in zip(fits, batches, losses, gradients, strict=True):
                fit.learn(batch, loss, gradient)
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half, at = len(fits) // 2, self.groups.index(fits)
        self.groups[at : at + 1] = first, second = fits[:half], fits[half:]
        self._learn(first, batches[:half])
        self._learn(second, batches[half:])

    def _losses_and_gradients(
        self, fits: Fits, batches: Sequence[Batch]
    ) -> tuple[list[float], list[list[torch.Tensor]]]:
        """The loss of each fit's batch, and its gradients for that fit's parameters; nothing is changed."""
        whole = [fit.spec.train.loss == "vocabulary" for fit in fits]
        logits = self.model.answer_logits(
            self._embed(fits, batches),
            self.prompt,
            [fit.adapter for fit in fits],
            whole_vocabulary=any(whole),
            recompute=any(fit.spec.train.gradient_checkpointing for fit in fits),
        )
        answers = [self.prompt.speech_id, self.prompt.nonspeech_id]
        rows = [
            row[:, answers] if any(whole) and not is_whole else row
            for row, is_whole in zip(torch.split(logits, [len(batch) for batch in batches]), whole, strict=True)
        ]
        losses = [fit.loss(row, batch, self.prompt) for fit, row, batch in zip(fits, rows, batches, strict=True)]
        parameters = [parameter for fit in fits for parameter in fit.optimizer.parameters]
        gradients = iter(torch.autograd.grad(torch.stack(losses).sum(), parameters))
        return [loss.item() for loss in losses], [[next(gradients) for _ in fit.optimizer.parameters] for fit in fits]

    def _embed(self, fits: Fits, batches: Sequence[Batch]) -> list[list[torch.Tensor]]:
        """Audio tokens of every row's clips.

        A clip that several fits get under the same plan goes through the frozen audio encoder once, without gradients;
        the fits that train the encoder run it together, each on its own clips.
        """
        mels = {(item.clip.clip_id, item.plan): item.mel for batch in batches for item in batch}
        keys = [[(item.clip.clip_id, item.plan) for item in batch] for batch in batches]
        alone = [self.model.changes_encoder(fit.adapter) for fit in fits]
        shared = {key: mels[key] for row, is_alone in zip(keys, alone, strict=True) if not is_alone for key in row}
        with torch.no_grad():
            tokens = self.model.embed_audio(list(shared.values())) if shared else []
        frozen = dict(zip(shared, tokens, strict=True))
        changing = [fit.adapter for fit, is_alone in zip(fits, alone, strict=True) if is_alone]
        own_rows = [[mels[key] for key in row] for row, is_alone in zip(keys, alone, strict=True) if is_alone]
        own = iter(self.model.embed_rows(own_rows, changing) if changing else [])
        return [
            next(own) if is_alone else [frozen[key] for key in row] for row, is_alone in zip(keys, alone, strict=True)
        ]

    def _dev_scores(self, fit: FitUnderway) -> NDArray[np.float64]:
        adapter, audio = replace(fit.adapter, dropout_key=None), fit.dev.audio
        if self.model.changes_encoder(adapter):
            audio = embed_clips(self.model, fit.dev.mels, DEV_BATCH_SECONDS, adapter)
        return answer_scores(self.model, audio, self.prompt, adapter)

    def states(self) -> list[FitState]:
        """What each fit needs to go on, and the number of its group."""
        states = [fit.state() for fit in self.fits]
        for fit, state in zip(self.fits, states, strict=True):
            state.record["stack"] = next((number for number, group in enumerate(self.groups) if fit in group), 0)
        return states

    def restore(self, states: Sequence[FitState]) -> None:
        """Go on from what `states` returned."""
        groups: dict[int, list[FitUnderway]] = {}
        for fit, state in zip(self.fits, states, strict=True):
            fit.restore(state)
            groups.setdefault(state.record["stack"], []).append(fit)
        self.groups = [groups[number] for number in sorted(groups)]
