"""One fit under way: its adapter, optimiser, place in the data, history; and how to write that down and go on.

Everything random is keyed by (seed, epoch, clip) or (seed, batch), so the place in the data is two numbers. What
`state` writes and `restore` reads back continues to the same bits.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.augment.plan import AugmentConfig
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter, LoraPair, ProjectorWeights, new_adapter
from listenwell.model.prompt import Prompt
from listenwell.model.settings import LoraConfig, find_targets
from listenwell.train.checkpoint import FitState
from listenwell.train.fit_log import FitLog
from listenwell.train.loader import PreparedClip, Source, Wanted, draw_epoch
from listenwell.train.settings import TrainConfig, count_steps, count_warmup_steps, rate_share


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
class Progress:
    """Told after every optimiser step: which fit, how far, the last loss and the clips heard so far."""

    name: str
    step: int
    n_steps: int
    loss: float
    n_clips: int


class FitUnderway:
    """One fit of a stack; `source` is its place among the loader's sources.

    failure: why it was stopped, None while all is well.
    """

    def __init__(self, model: AudioLanguageModel, spec: FitSpec, log: FitLog | None = None, source: int = 0) -> None:
        self.spec, self.log, self.source = spec, log, source
        config = spec.train
        self.adapter = new_adapter(spec.lora, model.network, find_targets(model, spec.lora), spec.seed)
        groups: list[dict[str, Any]] = [{"params": self.adapter.factors(), "lr": config.learning_rate}]
        if config.projector == "trained":
            self.adapter.projector = model.own_projector()
            weights = [self.adapter.projector.weight, self.adapter.projector.bias]
            groups.append({"params": weights, "lr": config.projector_learning_rate})
        self.parameters: list[torch.Tensor] = [parameter for group in groups for parameter in group["params"]]
        self.clips_per_epoch = config.clips_per_epoch or len(spec.clips)
        if self.clips_per_epoch > len(spec.clips):
            raise ConfigError(
                f"train.clips_per_epoch is {self.clips_per_epoch}, but there are {len(spec.clips)} training clips; "
                "lower it, or leave it null to take every clip."
            )
        self.n_steps = count_steps(config, self.clips_per_epoch)
        n_warmup = count_warmup_steps(config, self.n_steps)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_share(step, self.n_steps, n_warmup, config.schedule)
        )
        self.label_weights = _label_weights(spec)
        self.epoch, self.step, self.n_clips = 1, 0, 0
        self.n_batches = self.n_batches_in_epoch = self.pending = 0
        self.losses: list[float] = []  # one for every clip of this epoch so far: the mean of its batch
        self.history: list[dict[str, Any]] = []
        self.best: tuple[float, int, Adapter] | None = None
        self.failure: str | None = None
        self.was_dropped = False
        self.upcoming = self._clips_of_epoch(self.epoch)

    @property
    def is_done(self) -> bool:
        """True when no batch is left: all epochs over, dev no better, the fit failed, or it was dropped."""
        is_ended = self.failure is not None or self.was_dropped
        return is_ended or self.epoch > self.spec.train.epochs or self._has_lost_patience()

    @property
    def is_at_epoch_end(self) -> bool:
        """True when this epoch has no batch left."""
        return not self.upcoming

    def next_batch(self) -> list[Wanted]:
        """The next clips; from now on dropout draws for this batch."""
        size = self.spec.train.batch
        clips, self.upcoming = self.upcoming[:size], self.upcoming[size:]
        self.n_batches += 1
        self.n_batches_in_epoch += 1
        self.adapter.dropout_key = (self.spec.seed, self.n_batches)
        return [Wanted(self.source, clip, self.epoch) for clip in clips]

    def coming_up(self, n_batches: int) -> list[Wanted]:
        """The clips of the next n_batches, into the next epoch where this one ends; none when the fit is done."""
        if self.is_done:
            return []
        n_clips = n_batches * self.spec.train.batch
        named = [Wanted(self.source, clip, self.epoch) for clip in self.upcoming[:n_clips]]
        if len(named) < n_clips and self.epoch < self.spec.train.epochs:
            following = self._clips_of_epoch(self.epoch + 1)[: n_clips - len(named)]
            named += [Wanted(self.source, clip, self.epoch + 1) for clip in following]
        return named

    def note_plans(self, batch: Sequence[PreparedClip]) -> None:
        """Write down what the clips of a batch were heard under."""
        if self.log is not None:
            self.log.add_plans(item.plan for item in batch)

    def loss(self, logits: torch.Tensor, batch: Sequence[PreparedClip], prompt: Prompt) -> torch.Tensor:
        """Mean cross-entropy of the answers; logits (n, 2) over the two answers, or (n, V) over the vocabulary."""
        ids = (0, 1) if self.spec.train.loss == "answers" else (prompt.speech_id, prompt.nonspeech_id)
        wanted = torch.tensor([ids[not item.is_speech] for item in batch], device=logits.device)
        weights = torch.tensor([self.label_weights[not item.is_speech] for item in batch], device=logits.device)
        losses = torch.nn.functional.cross_entropy(
            logits, wanted, reduction="none", label_smoothing=self.spec.train.label_smoothing
        )
        return (losses * weights).mean() * self._share_of_step(len(batch))

    def _share_of_step(self, n_clips: int) -> float:
        """The weight of this batch's mean loss in its optimiser step: its share of the clips that are in the step.

        An epoch's last step holds what is left. All batches before this one are full, so 1 without accumulation.
        """
        train = self.spec.train
        left = self.pending * train.batch + n_clips + len(self.upcoming)
        return n_clips / min(train.batch * train.accumulation, left)

    def after_backward(
        self,
        batch: Sequence[PreparedClip],
        loss: float,
        gradients: Sequence[torch.Tensor],
        on_step: Callable[[Progress], None],
    ) -> None:
        """Take the gradients of one batch, and a step of the optimiser when enough batches are in it.

        `loss` is what `loss` returned. A loss or gradient that is not finite stops this fit; nothing is applied.
        """
        if not math.isfinite(loss):
            return self._fail("loss", loss, batch)
        mean = loss / self._share_of_step(len(batch))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self.losses += [mean] * len(batch)
        self.n_clips += len(batch)
        in_step = self.pending * self.spec.train.batch + len(batch)
        self.pending += 1
        if self.pending < self.spec.train.accumulation and not self.is_at_epoch_end:
            return None
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.train.clip_norm))
        if not math.isfinite(norm):
            return self._fail("gradient", norm, batch)
        rate = self.schedule.get_last_lr()[0]
        mean = float(np.mean(self.losses[-in_step:]))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        self.pending = 0
        self._note({"step": self.step, "loss": mean, "gradient_norm": norm, "learning_rate": rate})
        on_step(Progress(self.spec.name, self.step, self.n_steps, mean, self.n_clips))
        return None

    def _fail(self, what: str, value: float, batch: Sequence[PreparedClip]) -> None:
        clips = ", ".join(item.clip.clip_id for item in batch)
        kept = "" if self.best is None else f" What it had learned up to epoch {self.best[1]} is in its checkpoint."
        self.failure = (
            f"fit '{self.spec.name}', step {self.step + 1}: the {what} is {value} on the clips {clips}; check these "
            f"recordings, or lower train.learning_rate.{kept}"
        )

    def end_epoch(self, dev_scores: NDArray[np.float64], is_speech: NDArray[np.bool_]) -> None:
        """Judge the epoch by the scores (n,) of the dev clips and begin the next one."""
        train_loss, dev_loss = float(np.mean(self.losses)), logistic_loss(dev_scores, is_speech)
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "train_loss": train_loss,
            "dev_loss": dev_loss,
            "gap": dev_loss - train_loss,
            "dev_balanced_accuracy_at_0": balanced_accuracy(decide(dev_scores, 0.0), is_speech),
            "dev_auc": roc_auc(dev_scores, is_speech),
            "learning_rate": self.schedule.get_last_lr()[0],
        }
        self.history.append(record)
        self._note(record)
        if self.best is None or dev_loss < self.best[0]:
            self.best = (dev_loss, self.epoch, _frozen_copy(self.adapter))
        self.epoch, self.losses, self.n_batches_in_epoch = self.epoch + 1, [], 0
        self.upcoming = self._clips_of_epoch(self.epoch)

    def _has_lost_patience(self) -> bool:
        patience = self.spec.train.patience
        return patience is not None and self.best is not None and self.epoch - 1 - self.best[1] >= patience

    def _clips_of_epoch(self, epoch: int) -> list[Clip]:
        return draw_epoch(self.spec.clips, self.clips_per_epoch, self.spec.seed, epoch)

    def _note(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.add_metrics(record)

    def state(self) -> FitState:
        """Everything needed to go on from here."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)}
        if self.pending:
            tensors |= {f"gradient.{i}": p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        for i, moments in optimizer["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        if self.best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in _tensors_of(self.best[2]).items()}
        record = {
            **{name: getattr(self, name) for name in PLACE},
            "optimizer_groups": optimizer["param_groups"],
            "schedule": self.schedule.state_dict() | {"lr_lambdas": []},
            "best": None if self.best is None else list(self.best[:2]),
            "n_logged": None if self.log is None else [self.log.n_plans, self.log.n_metrics],
        }
        return FitState(record, tensors)

    def restore(self, state: FitState) -> None:
        """Go on from what `state` wrote."""
        record, tensors = state.record, state.tensors
        for name in PLACE:
            setattr(self, name, record[name])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
                if self.pending and f"gradient.{i}" in tensors:
                    parameter.grad = tensors[f"gradient.{i}"].to(parameter.device)
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, what = name.split(".")
                moments.setdefault(int(number), {})[what] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": record["optimizer_groups"]})
        self.schedule.load_state_dict(record["schedule"] | {"lr_lambdas": [None] * len(self.optimizer.param_groups)})
        if record["best"] is not None:
            best = _frozen_copy(self.adapter)
            for name, tensor in _tensors_of(best).items():
                tensor.copy_(tensors[f"best.{name}"])
            self.best = (*record["best"], best)
        self.upcoming = self._clips_of_epoch(self.epoch)[self.n_batches_in_epoch * self.spec.train.batch :]
        if self.log is not None and record["n_logged"] is not None:
            self.log.rewind(*record["n_logged"])

    def best_adapter(self) -> tuple[int, Adapter]:
        """The best epoch and its adapter. Raises TrainingError when no epoch was finished."""
        if self.best is None:
            raise TrainingError(f"fit '{self.spec.name}' ended without an epoch; train.epochs must be at least 1.")
        return self.best[1], self.best[2]


PLACE = (
    "epoch", "step", "n_clips", "n_batches", "n_batches_in_epoch", "pending", "losses", "history", "failure",
    "was_dropped",
)  # fmt: skip
"""The attributes of a fit under way that are plain values."""


def logistic_loss(scores: NDArray[np.float64], is_speech: NDArray[np.bool_]) -> float:
    """Mean logistic loss of the scores, in nats: log(1 + exp(-s)) for speech, log(1 + exp(s)) for non-speech."""
    return float(np.mean(np.logaddexp(0.0, np.where(is_speech, -scores, scores))))


def _label_weights(spec: FitSpec) -> tuple[float, ...]:
    """The weights of SPEECH and NONSPEECH in the loss: 1, or so that both classes count alike, 1 on average."""
    if spec.train.class_weights == "none":
        return (1.0, 1.0)
    counts = [sum(clip.label == label for clip in spec.clips) for label in LABELS]
    if min(counts) == 0:
        raise ConfigError("train.class_weights is balanced, but the training clips are all of one class.")
    return tuple(len(spec.clips) / (2 * count) for count in counts)


def _tensors_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Every tensor of an adapter by name; the projector's names are no module's."""
    tensors: dict[str, torch.Tensor] = {}
    for name, pair in adapter.pairs.items():
        tensors |= {f"{name}.a": pair.a, f"{name}.b": pair.b}
    if adapter.projector is not None:
        tensors |= {"projector weight": adapter.projector.weight, "projector bias": adapter.projector.bias}
    return tensors


def _frozen_copy(adapter: Adapter) -> Adapter:
    frozen = copy.copy(adapter)
    frozen.dropout_key = None
    frozen.pairs = {
        name: LoraPair(pair.a.detach().clone(), pair.b.detach().clone()) for name, pair in adapter.pairs.items()
    }
    if adapter.projector is not None:
        frozen.projector = ProjectorWeights(
            adapter.projector.weight.detach().clone(),
            adapter.projector.bias.detach().clone(),
            adapter.projector.name,
        )
    return frozen
