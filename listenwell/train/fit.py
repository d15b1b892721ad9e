"""The one training loop: a stack of fits over one frozen base.

A fit is one adapter trained once. All fits of the stack take one forward and one backward pass together, row k of
the packed batch being fit k's clips through adapter k; each has its own clips, order, plans, dropout stream,
gradient clipping, optimiser and schedule, and leaves the stack when it ends. A stack of one is the ordinary case.
The loss is the answer's alone: the cross-entropy over the two answers, which is the logistic loss of
s = logit(SPEECH) - logit(NONSPEECH), or over the whole vocabulary where asked. A frozen tower runs without gradients.

The best epoch is the one with the lowest logistic loss on the dev clips, each heard under one fixed plan.

Out of memory splits the stack in two, for good: the halves take turns, which changes results within rounding only.

Give memory that was freed back to the system at once, where the C library is glibc.

glibc raises the size from which an allocation is a mapping of its own, up to 32 MiB, and keeps what lies below in a
heap that only shrinks from its end. Gradient checkpointing frees every layer's activations, but between small tensors
that stay: in the small model, six fits of sixteen clips, a step's peak was 1492 MiB so and 917 MiB with a fixed size.
It costs about a tenth of the time, in calls of the system.
"""

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.errors import TrainingError
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.lora import Adapter
from listenwell.model.mel import LogMel, ShortClipConfig
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.model.prompt import Prompt
from listenwell.train.checkpoint import Checkpoints
from listenwell.train.fit_log import FitLog
from listenwell.train.fit_underway import FitSpec, FitUnderway, Progress
from listenwell.train.interruption import StoppedError, listen_for_stop
from listenwell.train.loader import ClipLoader, Ear, PreparedClip, Source

MAPPED_FROM_BYTES = 2**20
_M_MMAP_THRESHOLD = -3


def return_freed_memory() -> None:
    """From now on, allocations of MAPPED_FROM_BYTES and more go back when they are freed; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
    except (OSError, AttributeError):  # another C library
        return


DEV_BATCH_SECONDS = 32.0
BATCHES_AHEAD = 2
"""Batches of every fit that workers prepare while the model computes."""


@dataclass(frozen=True, slots=True)
class DevSet:
    """Dev clips as spectrograms and as the base tower's audio tokens (n_tokens, W); is_speech has shape (n,)."""

    mels: Sequence[LogMel]
    audio: Sequence[torch.Tensor]
    is_speech: NDArray[np.bool_]


def hear_dev(model: AudioLanguageModel, mels: Sequence[LogMel], is_speech: NDArray[np.bool_]) -> DevSet:
    """Run the frozen tower over the dev clips once, for all fits and epochs."""
    return DevSet(mels, embed_clips(model, mels, DEV_BATCH_SECONDS), is_speech)


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
    """What happens beside the arithmetic: who is told of steps, who may end a fit, what is written meanwhile.

    logs: one per fit, in the order of the specs, or none.
    keep_going(name, standings) is asked after every epoch but a fit's last, once all fits have taken their batch of the
    round; standings tell how far each fit of the stack has come. False drops the fit, the others go on. The answer is
    in the next checkpoint, so a resumed stack asks again only about epochs that ended after it.
    """

    on_step: Callable[[Progress], None] = lambda progress: None
    logs: Sequence[FitLog] = ()
    checkpoints: Checkpoints | None = None
    keep_going: Callable[[str, Mapping[str, Standing]], bool] = lambda name, standings: True


@dataclass(frozen=True, slots=True)
class _Hearing:
    """What turns planned clips into answers, the same for the whole stack."""

    model: AudioLanguageModel
    prompt: Prompt
    loader: ClipLoader


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
    logs: Sequence[FitLog | None] = watch.logs or [None] * len(specs)
    sources, places = _find_sources(specs)
    fits = [FitUnderway(model, *each) for each in zip(specs, logs, places, strict=True)]
    stacks, n_rounds = _resume(fits, watch.checkpoints)
    n_workers = max(spec.train.workers for spec in specs)
    ear = Ear(model.mel_filters, short_clips)
    with numpy_on_one_thread(), listen_for_stop() as stop, ClipLoader(sources, ear, n_workers) as loader:
        hearing = _Hearing(model, prompt, loader)
        dev_of = {id(fit): own for fit, own in zip(fits, dev, strict=True)}
        while any(not fit.is_done for fit in fits):
            stacks = [half for stack in stacks for half in _take_round(stack, fits, hearing, dev_of, watch)]
            _drop(fits, watch)
            n_rounds += 1
            if stop.signal_number is not None:
                raise _stopped(fits, stacks, n_rounds, watch.checkpoints, stop.signal_number)
            if watch.checkpoints is not None and n_rounds % watch.checkpoints.every_steps == 0:
                _save(fits, stacks, n_rounds, watch.checkpoints)
        if watch.checkpoints is not None:
            # a kill before the adapters are written trains nothing again
            _save(fits, stacks, n_rounds, watch.checkpoints)
    return [_result(fit) for fit in fits]


def _find_sources(specs: Sequence[FitSpec]) -> tuple[list[Source], list[int]]:
    """The different sources of the fits, and the place of each fit's among them."""
    sources: list[Source] = []
    for spec in specs:
        if spec.source not in sources:
            sources.append(spec.source)
    return sources, [sources.index(spec.source) for spec in specs]


def _take_round(
    stack: Sequence[FitUnderway],
    fits: Sequence[FitUnderway],
    hearing: _Hearing,
    dev_of: Mapping[int, DevSet],
    watch: Watch,
) -> list[Sequence[FitUnderway]]:
    """One batch of every fit of the stack; returns the stack, or its halves when memory did not hold it.

    fits: all there are; what comes next for them is prepared meanwhile.
    """
    active = [fit for fit in stack if not fit.is_done]
    if not active:
        return [stack]
    wanted = [fit.next_batch() for fit in active]
    ahead = [each for fit in fits for each in fit.coming_up(BATCHES_AHEAD)]
    prepared = iter(hearing.loader.load([each for batch in wanted for each in batch], ahead))
    batches = [[next(prepared) for _ in batch] for batch in wanted]
    for fit, batch in zip(active, batches, strict=True):
        fit.note_plans(batch)
    parts = _learn(active, batches, hearing, watch)
    for fit in active:
        if fit.is_at_epoch_end and fit.failure is None:
            own = dev_of[id(fit)]
            fit.end_epoch(_dev_scores(fit.adapter, hearing, own), own.is_speech)
    return [stack] if len(parts) == 1 else parts


def _drop(fits: Sequence[FitUnderway], watch: Watch) -> None:
    """Ask about every fit that ended an epoch in this round and has more to come."""
    asked = [fit for fit in fits if fit.n_batches_in_epoch == 0 and not fit.is_done]
    if not asked:
        return
    standings = {
        fit.spec.name: Standing(tuple(fit.history), fit.is_done and not fit.was_dropped, fit.failure is not None)
        for fit in fits
    }
    for fit in asked:
        fit.was_dropped = not watch.keep_going(fit.spec.name, standings)


def _learn(
    fits: Sequence[FitUnderway], batches: Sequence[Sequence[PreparedClip]], hearing: _Hearing, watch: Watch
) -> list[Sequence[FitUnderway]]:
    """Forward, backward and steps of fits together; halves of them where memory does not hold all."""
    try:
        losses, gradients = _losses_and_gradients(fits, batches, hearing)
    except torch.OutOfMemoryError as error:
        if len(fits) == 1:
            raise TrainingError(
                f"fit '{fits[0].spec.name}': one batch of {len(batches[0])} clips does not fit into memory; lower "
                "train.batch and raise train.accumulation, or set train.gradient_checkpointing."
            ) from error
    else:
        for fit, batch, loss, own in zip(fits, batches, losses, gradients, strict=True):
            fit.after_backward(batch, loss, own, watch.on_step)
        return [fits]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(fits) // 2
    return _learn(fits[:half], batches[:half], hearing, watch) + _learn(fits[half:], batches[half:], hearing, watch)


def _losses_and_gradients(
    fits: Sequence[FitUnderway], batches: Sequence[Sequence[PreparedClip]], hearing: _Hearing
) -> tuple[list[float], list[list[torch.Tensor]]]:
    """The loss of each fit's batch, and its gradients for that fit's parameters; nothing is changed."""
    adapters = [fit.adapter for fit in fits]
    audio = _embed_batches(hearing, adapters, batches)
    whole = [fit.spec.train.loss == "vocabulary" for fit in fits]
    recompute = any(fit.spec.train.gradient_checkpointing for fit in fits)
    logits = hearing.model.answer_logits(
        audio, hearing.prompt, adapters, whole_vocabulary=any(whole), recompute=recompute
    )
    answers = [hearing.prompt.speech_id, hearing.prompt.nonspeech_id]
    rows = torch.split(logits, [len(batch) for batch in batches])
    chosen = [
        row[:, answers] if any(whole) and not all_of_it else row for row, all_of_it in zip(rows, whole, strict=True)
    ]
    losses = [fit.loss(row, batch, hearing.prompt) for fit, row, batch in zip(fits, chosen, batches, strict=True)]
    parameters = [parameter for fit in fits for parameter in fit.parameters]
    found = iter(torch.autograd.grad(torch.stack(losses).sum(), parameters))
    return [loss.item() for loss in losses], [[next(found) for _ in fit.parameters] for fit in fits]


def _embed_batches(
    hearing: _Hearing, adapters: Sequence[Adapter], batches: Sequence[Sequence[PreparedClip]]
) -> list[list[torch.Tensor]]:
    """Audio tokens of every row's clips.

    A clip that several fits hear under the same plan goes through the frozen tower once; a fit that trains the tower
    runs it on its own clips, with gradients.
    """
    model = hearing.model
    mels = {(item.clip.clip_id, item.plan): item.mel for batch in batches for item in batch}
    keys = [[(item.clip.clip_id, item.plan) for item in batch] for batch in batches]
    own = [model.changes_tower(adapter) for adapter in adapters]
    shared = {key: None for row, is_own in zip(keys, own, strict=True) if not is_own for key in row}
    with torch.no_grad():
        frozen = dict(zip(shared, model.embed_audio([mels[key] for key in shared]), strict=True)) if shared else {}
    return [
        model.embed_audio([mels[key] for key in row], adapter) if is_own else [frozen[key] for key in row]
        for row, adapter, is_own in zip(keys, adapters, own, strict=True)
    ]


def _dev_scores(adapter: Adapter, hearing: _Hearing, dev: DevSet) -> NDArray[np.float64]:
    key, adapter.dropout_key = adapter.dropout_key, None
    audio = dev.audio
    if hearing.model.changes_tower(adapter):
        audio = embed_clips(hearing.model, dev.mels, DEV_BATCH_SECONDS, adapter)
    scores = answer_scores(hearing.model, audio, hearing.prompt, adapter)
    adapter.dropout_key = key
    return scores


def _resume(fits: Sequence[FitUnderway], checkpoints: Checkpoints | None) -> tuple[list[Sequence[FitUnderway]], int]:
    """The stacks and the rounds taken so far: as the newest good checkpoint says, or one stack at the start."""
    found = None if checkpoints is None else checkpoints.newest()
    for name in [] if checkpoints is None else checkpoints.damaged:
        print(f"listenwell: warning: checkpoint {name} is damaged and passed over.", file=sys.stderr)
    if found is None:
        for fit in fits:
            if fit.log is not None:
                fit.log.rewind(0, 0)
        return [fits], 0
    n_rounds, states = found
    stacks: dict[int, list[FitUnderway]] = {}
    for fit, state in zip(fits, states, strict=True):
        fit.restore(state)
        stacks.setdefault(state.record["stack"], []).append(fit)
    return [stacks[number] for number in sorted(stacks)], n_rounds


def _save(
    fits: Sequence[FitUnderway], stacks: Sequence[Sequence[FitUnderway]], n_rounds: int, checkpoints: Checkpoints
) -> None:
    stack_of = {id(fit): number for number, stack in enumerate(stacks) for fit in stack}
    states = [fit.state() for fit in fits]
    for fit, state in zip(fits, states, strict=True):
        state.record["stack"] = stack_of[id(fit)]
    for fit in fits:
        if fit.log is not None:
            fit.log.flush()
    if not checkpoints.folder.is_dir():
        checkpoints.require_space(sum(t.numel() * t.element_size() for state in states for t in state.tensors.values()))
    checkpoints.save(n_rounds, states)


def _stopped(
    fits: Sequence[FitUnderway],
    stacks: Sequence[Sequence[FitUnderway]],
    n_rounds: int,
    checkpoints: Checkpoints | None,
    signal_number: int,
) -> StoppedError:
    place = ", ".join(f"'{fit.spec.name}' at step {fit.step} of {fit.n_steps}" for fit in fits)
    if checkpoints is None:
        message = f"training stopped ({place}); nothing was saved, no checkpoints were asked for."
    else:
        _save(fits, stacks, n_rounds, checkpoints)
        message = f"training stopped and saved ({place}); run the same command to go on from there."
    return StoppedError(message, signal_number)


def _result(fit: FitUnderway) -> FitResult | FailedFit:
    if fit.failure is not None:
        return FailedFit(fit.spec.name, fit.failure)
    best_epoch, adapter = fit.best_adapter()
    return FitResult(fit.spec.name, adapter, best_epoch, fit.step, fit.history, fit.was_dropped)
