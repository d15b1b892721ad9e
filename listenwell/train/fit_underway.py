"""One fit under way: its place in the data, its optimiser, its best epoch; and how to write that down and go on.

Everything random is keyed by (seed, epoch, clip) or (seed, batch), so a `Position` of plain values and the tensors
continue to the same bits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.augment.plan import AugmentConfig
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ConfigError
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.evaluate.probabilities import calibrated_loss
from listenwell.model.audio_language_model import AudioLanguageModel, embed_clips
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import LogMel
from listenwell.model.prompt import Prompt
from listenwell.model.settings import LoraConfig
from listenwell.train.checkpoint import FitState
from listenwell.train.fit_log import FitLog
from listenwell.train.loader import ClipRequest, PreparedClip, Source, draw_epoch
from listenwell.train.settings import TrainConfig, count_steps, count_warmup_steps, learning_rate_factor

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

    @property
    def source(self) -> Source:
        """What its clips are prepared with."""
        return Source(self.augment, self.seed, self.backgrounds)


@dataclass(frozen=True, slots=True)
class DevSet:
    """Dev clips as spectrograms and as the base's audio tokens (n_tokens, W); is_speech has shape (n,)."""

    mels: Sequence[LogMel]
    audio: Sequence[torch.Tensor]
    is_speech: NDArray[np.bool_]


def embed_dev(model: AudioLanguageModel, mels: Sequence[LogMel], is_speech: NDArray[np.bool_]) -> DevSet:
    """Run the frozen audio encoder over the dev clips once, for all fits and epochs."""
    return DevSet(mels, embed_clips(model, mels, DEV_BATCH_SECONDS), is_speech)


@dataclass(frozen=True, slots=True)
class Progress:
    """Reported after every optimiser step: which fit, how far, the last loss, what dev said of the last epoch (None
    in the first), and the clips seen so far."""

    name: str
    step: int
    n_steps: int
    loss: float
    last_epoch: Mapping[str, Any] | None
    n_clips: int


@dataclass(slots=True)
class Position:
    """How far a fit has come, in plain values; a checkpoint holds them by these names.

    epoch: from 1, the one under way. step: optimiser steps taken; pending: batches whose gradients wait for the next.
    losses: of each clip of this epoch so far, the mean of its batch. history: one record per epoch. failure: why the
    fit was stopped, None while all is well.
    """

    epoch: int = 1
    step: int = 0
    n_clips: int = 0
    n_batches: int = 0
    n_batches_in_epoch: int = 0
    pending: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None
    was_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Best:
    """The adapter of the epoch with the lowest dev loss so far."""

    dev_loss: float
    epoch: int
    adapter: Adapter


class FitUnderway:
    """One fit of a stack; source: its place among the loader's sources."""

    def __init__(
        self,
        model: AudioLanguageModel,
        spec: FitSpec,
        dev: DevSet,
        log: FitLog,
        source: int,
        on_step: Callable[[Progress], None],
    ) -> None:
        self.spec, self.dev, self.log, self.source, self.on_step = spec, dev, log, source, on_step
        self.clips_per_epoch = spec.train.clips_per_epoch or len(spec.clips)
        if self.clips_per_epoch > len(spec.clips):
            raise ConfigError(
                f"train.clips_per_epoch is {self.clips_per_epoch}, but there are {len(spec.clips)} training clips; "
                "lower it, or leave it null to take every clip."
            )
        self.adapter = new_adapter(spec.lora, model.network, model.find_targets(spec.lora), spec.seed)
        if spec.train.projector == "trained":
            self.adapter.projector = model.own_projector()
        self.optimizer = Optimizer(spec.train, self.adapter, count_steps(spec.train, self.clips_per_epoch))
        self.label_weights = _label_weights(spec)
        self.position = Position()
        self.best: Best | None = None
        self.upcoming = self._clips_of_epoch(1)

    @property
    def is_done(self) -> bool:
        """True when no batch is left: all epochs over, dev no better, the fit failed, or it was dropped."""
        at, patience = self.position, self.spec.train.patience
        if at.failure is not None or at.was_dropped or at.epoch > self.spec.train.epochs:
            return True
        return patience is not None and self.best is not None and at.epoch - 1 - self.best.epoch >= patience

    def next_batch(self) -> list[ClipRequest]:
        """The next clips; from now on dropout draws for this batch."""
        at, size = self.position, self.spec.train.batch
        clips, self.upcoming = self.upcoming[:size], self.upcoming[size:]
        at.n_batches += 1
        at.n_batches_in_epoch += 1
        self.adapter.dropout_key = (self.spec.seed, at.n_batches)
        return [ClipRequest(self.source, clip, at.epoch) for clip in clips]

    def look_ahead(self, n_batches: int) -> list[ClipRequest]:
        """The clips of the next n_batches, into the next epoch where this one ends; none when the fit is done."""
        if self.is_done:
            return []
        epoch, n_clips = self.position.epoch, n_batches * self.spec.train.batch
        requests = [ClipRequest(self.source, clip, epoch) for clip in self.upcoming[:n_clips]]
        if len(requests) < n_clips and epoch < self.spec.train.epochs:
            following = self._clips_of_epoch(epoch + 1)[: n_clips - len(requests)]
            requests += [ClipRequest(self.source, clip, epoch + 1) for clip in following]
        return requests

    def loss(self, logits: torch.Tensor, batch: Sequence[PreparedClip], prompt: Prompt) -> torch.Tensor:
        """Mean cross-entropy of the answers, times the batch's share of its optimiser step.

        logits: (n, 2) over the two answers, or (n, V) over the vocabulary.
        """
        ids = (0, 1) if self.spec.train.loss == "answers" else (prompt.speech_id, prompt.nonspeech_id)
        targets = torch.tensor([ids[not item.is_speech] for item in batch], device=logits.device)
        weights = torch.tensor([self.label_weights[not item.is_speech] for item in batch], device=logits.device)
        losses = torch.nn.functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.spec.train.label_smoothing
        )
        return (losses * weights).mean() * self._share_of_step(len(batch))

    def _share_of_step(self, n_clips: int) -> float:
        """The weight of this batch's mean loss in its optimiser step: its share of the clips that are in the step.

        An epoch's last step holds what is left. All batches before this one are full, so 1 without accumulation.
        """
        train = self.spec.train
        left = self.position.pending * train.batch + n_clips + len(self.upcoming)
        return n_clips / min(train.batch * train.accumulation, left)

    def learn(self, batch: Sequence[PreparedClip], loss: float, gradients: Sequence[torch.Tensor]) -> None:
        """Take the gradients of one batch, and a step of the optimiser when enough batches are in it.

        loss: what `loss` returned. A loss or gradient that is not finite stops this fit; nothing is applied.
        """
        if not math.isfinite(loss):
            return self._fail("loss", loss, batch)
        at, train = self.position, self.spec.train
        n_in_step = at.pending * train.batch + len(batch)
        at.losses += [loss / self._share_of_step(len(batch))] * len(batch)
        self.optimizer.add(gradients)
        at.n_clips += len(batch)
        at.pending += 1
        if at.pending < train.accumulation and self.upcoming:
            return None
        norm, rate = self.optimizer.clip(), self.optimizer.rate(at.step)
        if not math.isfinite(norm):
            return self._fail("gradient", norm, batch)
        self.optimizer.step(at.step)
        at.step, at.pending = at.step + 1, 0
        mean = float(np.mean(at.losses[-n_in_step:]))
        self.log.add_metrics({"step": at.step, "loss": mean, "gradient_norm": norm, "learning_rate": rate})
        last_epoch = at.history[-1] if at.history else None
        self.on_step(Progress(self.spec.name, at.step, self.optimizer.n_steps, mean, last_epoch, at.n_clips))
        return None

    def _fail(self, what: str, value: float, batch: Sequence[PreparedClip]) -> None:
        clips = ", ".join(item.clip.clip_id for item in batch)
        kept = "" if self.best is None else f" What it had learned up to epoch {self.best.epoch} is in its checkpoint."
        self.position.failure = (
            f"fit '{self.spec.name}', step {self.position.step + 1}: the {what} is {value} on the clips {clips}; check "
            f"these recordings, or lower train.learning_rate.{kept}"
        )

    def end_epoch(self, dev_scores: NDArray[np.float64]) -> None:
        """Judge the epoch by the scores (n,) of the dev clips and begin the next one."""
        at, is_speech = self.position, self.dev.is_speech
        train_loss = float(np.mean(at.losses))
        dev_loss = calibrated_loss(dev_scores, is_speech)
        record: dict[str, Any] = {
            "epoch": at.epoch,
            "step": at.step,
            "train_loss": train_loss,
            "dev_loss": dev_loss,
            "gap": dev_loss - train_loss,
            "dev_balanced_accuracy_at_0": balanced_accuracy(decide(dev_scores, 0.0), is_speech),
            "dev_auc": roc_auc(dev_scores, is_speech),
            "learning_rate": self.optimizer.rate(at.step),
        }
        self.log.add_metrics(record)
        if self.best is None or dev_loss < self.best.dev_loss:
            self.best = Best(dev_loss, at.epoch, self.adapter.frozen_copy())
        at.history.append(record)
        at.epoch, at.losses, at.n_batches_in_epoch = at.epoch + 1, [], 0
        self.upcoming = self._clips_of_epoch(at.epoch)

    def _clips_of_epoch(self, epoch: int) -> list[Clip]:
        return draw_epoch(self.spec.clips, self.clips_per_epoch, self.spec.seed, epoch)

    def state(self) -> FitState:
        """Everything needed to go on from here."""
        best = {} if self.best is None else self.best.adapter.tensors()
        record = {
            **asdict(self.position),
            "best": None if self.best is None else [self.best.dev_loss, self.best.epoch],
            "n_logged": [self.log.n_plans, self.log.n_metrics],
        }
        return FitState(record, self.optimizer.tensors() | {f"best.{name}": t for name, t in best.items()})

    def restore(self, state: FitState) -> None:
        """Go on from what `state` wrote."""
        record, tensors = state.record, state.tensors
        self.position = Position(**{name: record[name] for name in Position.__dataclass_fields__})
        self.optimizer.restore(tensors)
        if record["best"] is not None:
            adapter = self.adapter.frozen_copy()
            for name, tensor in adapter.tensors().items():
                tensor.copy_(tensors[f"best.{name}"])
            dev_loss, epoch = record["best"]
            self.best = Best(dev_loss, epoch, adapter)
        n_taken = self.position.n_batches_in_epoch * self.spec.train.batch
        self.upcoming = self._clips_of_epoch(self.position.epoch)[n_taken:]
        self.log.rewind(*record["n_logged"])


class Optimizer:
    """AdamW over an adapter, with warm-up, decay and a limit on the gradient's norm; gradients add up until a step."""

    def __init__(self, config: TrainConfig, adapter: Adapter, n_steps: int) -> None:
        self.config, self.n_steps, self.n_warmup = config, n_steps, count_warmup_steps(config, n_steps)
        groups: list[dict[str, Any]] = [{"params": adapter.factors(), "lr": config.learning_rate}]
        if adapter.projector is not None:
            weights = [adapter.projector.weight, adapter.projector.bias]
            groups.append({"params": weights, "lr": config.projector_learning_rate})
        self.peaks: list[float] = [group["lr"] for group in groups]
        self.parameters: list[torch.Tensor] = [parameter for group in groups for parameter in group["params"]]
        self.adamw = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add a batch's gradients, in the order of `parameters`, to those that wait."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def clip(self) -> float:
        """Scale the gradients down to the largest norm allowed; returns the norm they had."""
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm))

    def step(self, step: int) -> None:
        """Take step number `step`, from 0; no gradients wait afterwards."""
        for group, peak in zip(self.adamw.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self._factor(step)
        self.adamw.step()
        self.adamw.zero_grad()

    def rate(self, step: int) -> float:
        """Learning rate of the LoRA factors at `step`."""
        return self.peaks[0] * self._factor(step)

    def _factor(self, step: int) -> float:
        return learning_rate_factor(step, self.n_steps, self.n_warmup, self.config.schedule)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters, gradients that wait, and AdamW's moments, by name."""
        tensors = {f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)}
        tensors |= {f"gradient.{i}": p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        for i, moments in self.adamw.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `tensors` returned."""
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
                if f"gradient.{i}" in tensors:
                    parameter.grad = tensors[f"gradient.{i}"].to(parameter.device)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, what = name.split(".")
                moments.setdefault(int(number), {})[what] = tensor
        self.adamw.load_state_dict({"state": moments, "param_groups": self.adamw.state_dict()["param_groups"]})


def _label_weights(spec: FitSpec) -> tuple[float, ...]:
    """The weights of SPEECH and NONSPEECH in the loss: 1, or so that both classes count alike, 1 on average."""
    if spec.train.class_weights == "none":
        return (1.0, 1.0)
    counts = [sum(clip.label == label for clip in spec.clips) for label in LABELS]
    if min(counts) == 0:
        raise ConfigError("train.class_weights is balanced, but the training clips are all of one class.")
    return tuple(len(spec.clips) / (2 * count) for count in counts)
