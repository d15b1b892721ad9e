"""The one training loop: a stack of fits over one frozen base.

A fit is one adapter trained once. All fits of the stack take one forward and one backward pass together, row k of
the packed batch being fit k's clips through adapter k; each has its own clips, order, plans, dropout stream,
gradient clipping, optimiser and schedule, and leaves the stack when it ends. A stack of one is the ordinary case.
The loss is the answer's alone: with s = logit(SPEECH) - logit(NONSPEECH), the logistic loss of s, which is the
cross-entropy over the two answers. The tower is frozen and runs without gradients.

The best epoch is the one with the lowest logistic loss on the dev clips, each heard under one fixed plan.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.augment.plan import AugmentConfig, Plan, apply_plan, draw_plan
from listenwell.data.audio import Waveform, load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.listening import answer_scores, embed_clips, hear
from listenwell.model.lora import Adapter, ProjectorWeights, new_adapter
from listenwell.model.mel import LogMel
from listenwell.model.prompt import Prompt
from listenwell.model.settings import LoraConfig
from listenwell.model.short_clips import ShortClipConfig
from listenwell.random_streams import stream
from listenwell.train.schedule import count_steps, count_warmup_steps, rate_share
from listenwell.train.settings import TrainConfig

DEV_BATCH_SECONDS = 32.0


@dataclass(frozen=True, slots=True)
class FitSpec:
    """Everything one fit is determined by, besides the model and the prompt."""

    name: str
    lora: LoraConfig
    train: TrainConfig
    augment: AugmentConfig
    seed: int
    clips: Sequence[Clip]
    backgrounds: BackgroundBank


@dataclass(frozen=True, slots=True)
class DevSet:
    """Dev clips as spectrograms and as the base tower's audio tokens (n_tokens, W); is_speech has shape (n,)."""

    mels: Sequence[LogMel]
    audio: Sequence[torch.Tensor]
    is_speech: NDArray[np.bool_]


def hear_dev(model: AudioLanguageModel, mels: Sequence[LogMel], is_speech: NDArray[np.bool_]) -> DevSet:
    """Run the frozen tower over the dev clips once, for all fits and epochs."""
    return DevSet(mels, embed_clips(model, mels, DEV_BATCH_SECONDS), is_speech)


@dataclass(slots=True)
class FitResult:
    """The adapter of the best epoch, that epoch (from 1), one record per epoch, and the plans of every clip heard."""

    name: str
    adapter: Adapter
    best_epoch: int
    history: list[dict[str, Any]]
    plans: list[Plan] = field(repr=False, default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """Told after every optimiser step: which fit, how far, the last loss and the clips heard so far."""

    name: str
    step: int
    n_steps: int
    loss: float
    n_clips: int


def train(
    model: AudioLanguageModel,
    prompt: Prompt,
    short_clips: ShortClipConfig,
    specs: Sequence[FitSpec],
    dev: DevSet,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> list[FitResult]:
    """Train the stack of `specs` and return their results in the same order.

    Raises TrainingError when a loss or gradient leaves the finite numbers (naming fit, step and clips) and
    ConfigError when a warm-up is longer than its run.
    """
    fits = [_Fit(model, spec) for spec in specs]
    n_workers = max(spec.train.workers for spec in specs)
    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        while active := [fit for fit in fits if not fit.is_done]:
            batches = [fit.next_batch() for fit in active]
            audio = _embed_batches(model, short_clips, [fit.adapter for fit in active], batches, pool)
            logits = model.answer_logits(audio, prompt, [fit.adapter for fit in active])
            scores = torch.split(logits[:, 0] - logits[:, 1], [len(batch) for batch in batches])
            losses = [_logistic_loss(s, batch) for s, batch in zip(scores, batches, strict=True)]
            shares = [fit.accumulated_share(len(batch)) for fit, batch in zip(active, batches, strict=True)]
            total = torch.stack([loss * share for loss, share in zip(losses, shares, strict=True)]).sum()
            torch.autograd.backward(total)
            for fit, batch, loss in zip(active, batches, losses, strict=True):
                fit.after_backward(batch, loss.item(), on_step)
                if fit.is_at_epoch_end:
                    fit.end_epoch(model, prompt, dev)
    return [fit.result() for fit in fits]


@dataclass(frozen=True, slots=True)
class _PlannedClip:
    clip: Clip
    plan: Plan
    bank: BackgroundBank
    samples: Waveform


def _logistic_loss(scores: torch.Tensor, batch: Sequence[_PlannedClip]) -> torch.Tensor:
    is_speech = torch.tensor([item.clip.label == "SPEECH" for item in batch], dtype=scores.dtype, device=scores.device)
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, is_speech)


def _embed_batches(
    model: AudioLanguageModel,
    short_clips: ShortClipConfig,
    adapters: Sequence[Adapter],
    batches: Sequence[Sequence[_PlannedClip]],
    pool: ThreadPoolExecutor,
) -> list[list[torch.Tensor]]:
    """Audio tokens of every row's clips.

    A clip that several fits hear under the same plan goes through the frozen tower once; a fit that trains the tower
    runs it on its own clips, with gradients.
    """
    items = {(item.clip.clip_id, item.plan): item for batch in batches for item in batch}

    def prepare(item: _PlannedClip) -> LogMel:
        heard = apply_plan(item.samples, item.plan, item.bank.load)
        return hear(model, heard, short_clips, item.plan.masks)

    mels = dict(zip(items, pool.map(prepare, items.values()), strict=True))
    keys = [[(item.clip.clip_id, item.plan) for item in batch] for batch in batches]
    own = [model.changes_tower(adapter) for adapter in adapters]
    shared = {key: None for row, is_own in zip(keys, own, strict=True) if not is_own for key in row}
    with torch.no_grad():
        frozen = dict(zip(shared, model.embed_audio([mels[key] for key in shared]), strict=True)) if shared else {}
    return [
        model.embed_audio([mels[key] for key in row], adapter) if is_own else [frozen[key] for key in row]
        for row, adapter, is_own in zip(keys, adapters, own, strict=True)
    ]


class _Fit:
    """One fit under way: its adapter, optimiser, place in the data and history."""

    def __init__(self, model: AudioLanguageModel, spec: FitSpec) -> None:
        self.spec = spec
        config = spec.train
        targets = model.lora_targets(spec.lora.scope, spec.lora.targets)
        self.adapter = new_adapter(spec.lora, model.network, targets, spec.seed)
        self.adapter.generator = stream(spec.seed, "dropout")
        groups: list[dict[str, Any]] = [{"params": self.adapter.factors(), "lr": config.learning_rate}]
        if config.projector == "trained":
            self.adapter.projector = model.own_projector()
            weights = [self.adapter.projector.weight, self.adapter.projector.bias]
            groups.append({"params": weights, "lr": config.projector_learning_rate})
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.clips_per_epoch = config.clips_per_epoch or len(spec.clips)
        if self.clips_per_epoch > len(spec.clips):
            raise ConfigError(
                f"train.clips_per_epoch is {self.clips_per_epoch}, but there are {len(spec.clips)} training clips; "
                "lower it, or leave it null to take every clip."
            )
        self.n_steps = count_steps(config, self.clips_per_epoch)
        n_warmup = count_warmup_steps(config, self.n_steps)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_share(step, self.n_steps, n_warmup, config.schedule)
        )
        self.n_mels = int(model.log_mel(np.zeros(1600, dtype=np.float32)).features.shape[0])
        self.epoch, self.step, self.n_clips = 1, 0, 0
        self.pending = 0
        self.losses: list[float] = []
        self.history: list[dict[str, Any]] = []
        self.plans: list[Plan] = []
        self.best: tuple[float, int, Adapter] | None = None
        self.batches = self._batches_of_epoch()
        self.upcoming = next(self.batches)

    @property
    def is_done(self) -> bool:
        return self.epoch > self.spec.train.epochs

    @property
    def is_at_epoch_end(self) -> bool:
        return not self.upcoming

    def _batches_of_epoch(self) -> Iterator[list[Clip]]:
        drawn = draw_epoch(self.spec.clips, self.clips_per_epoch, self.spec.seed, self.epoch)
        for first in range(0, len(drawn), self.spec.train.batch):
            yield drawn[first : first + self.spec.train.batch]
        yield []

    def next_batch(self) -> list[_PlannedClip]:
        clips, self.upcoming = self.upcoming, next(self.batches)
        planned = []
        for clip in clips:
            samples = load_waveform(clip)
            plan = draw_plan(
                self.spec.augment,
                clip,
                samples,
                self.spec.backgrounds.entries,
                self.n_mels,
                self.spec.seed,
                self.epoch,
            )
            planned.append(_PlannedClip(clip, plan, self.spec.backgrounds, samples))
        self.plans += [item.plan for item in planned]
        return planned

    def accumulated_share(self, n_clips: int) -> float:
        """The weight of this batch's mean loss in its optimiser step."""
        in_step = self.spec.train.batch * self.spec.train.accumulation
        return n_clips / in_step if self.spec.train.accumulation > 1 else 1.0

    def after_backward(self, batch: Sequence[_PlannedClip], loss: float, on_step: Callable[[Progress], None]) -> None:
        self.losses.append(loss)
        self.n_clips += len(batch)
        self.pending += 1
        if not math.isfinite(loss):
            raise self._not_finite("loss", loss, batch)
        if self.pending < self.spec.train.accumulation and not self.is_at_epoch_end:
            return
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.train.clip_norm))
        if not math.isfinite(norm):
            raise self._not_finite("gradient", norm, batch)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        self.pending = 0
        on_step(Progress(self.spec.name, self.step, self.n_steps, loss, self.n_clips))

    def _not_finite(self, what: str, value: float, batch: Sequence[_PlannedClip]) -> TrainingError:
        clips = ", ".join(item.clip.clip_id for item in batch)
        return TrainingError(
            f"fit '{self.spec.name}', step {self.step + 1}: the {what} is {value} on the clips {clips}; check these "
            "recordings, or lower train.learning_rate."
        )

    def end_epoch(self, model: AudioLanguageModel, prompt: Prompt, dev: DevSet) -> None:
        generator, self.adapter.generator = self.adapter.generator, None
        audio = dev.audio
        if model.changes_tower(self.adapter):
            audio = embed_clips(model, dev.mels, DEV_BATCH_SECONDS, self.adapter)
        scores = answer_scores(model, audio, prompt, self.adapter)
        self.adapter.generator = generator
        dev_loss = logistic_loss(scores, dev.is_speech)
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "train_loss": float(np.mean(self.losses)),
                "dev_loss": dev_loss,
                "dev_balanced_accuracy_at_0": balanced_accuracy(decide(scores, 0.0), dev.is_speech),
                "dev_auc": roc_auc(scores, dev.is_speech),
                "learning_rate": self.schedule.get_last_lr()[0],
            }
        )
        if self.best is None or dev_loss < self.best[0]:
            self.best = (dev_loss, self.epoch, _frozen_copy(self.adapter))
        self.epoch, self.losses = self.epoch + 1, []
        if not self.is_done:
            self.batches = self._batches_of_epoch()
            self.upcoming = next(self.batches)

    def result(self) -> FitResult:
        if self.best is None:
            raise TrainingError(f"fit '{self.spec.name}' ended without an epoch; train.epochs must be at least 1.")
        return FitResult(self.spec.name, self.best[2], self.best[1], self.history, self.plans)


def logistic_loss(scores: NDArray[np.float64], is_speech: NDArray[np.bool_]) -> float:
    """Mean logistic loss of the scores, in nats: log(1 + exp(-s)) for speech, log(1 + exp(s)) for non-speech."""
    return float(np.mean(np.logaddexp(0.0, np.where(is_speech, -scores, scores))))


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


def _frozen_copy(adapter: Adapter) -> Adapter:
    frozen = copy.copy(adapter)
    frozen.generator = None
    frozen.pairs = {
        name: type(pair)(pair.a.detach().clone(), pair.b.detach().clone()) for name, pair in adapter.pairs.items()
    }
    if adapter.projector is not None:
        frozen.projector = ProjectorWeights(
            adapter.projector.weight.detach().clone(), adapter.projector.bias.detach().clone()
        )
    return frozen
