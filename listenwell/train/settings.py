"""How an adapter is trained, all but its shape (model.lora) and the augmentation (augment.plan): how many optimiser
steps a fit takes, and the learning rate of each as a factor of its peak.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from listenwell.errors import ConfigError
from listenwell.section import Section

DEFAULT_WARMUP_SHARE = 0.1


class TrainConfig(Section):
    """One fit: AdamW on the answer alone, warm-up, then linear or cosine decay to zero."""

    epochs: int = Field(10, ge=1)
    """Passes over the training clips."""
    clips_per_epoch: int | None = Field(None, ge=2)
    """Clips drawn per epoch, half of each label and groups equally often; null takes every clip once."""
    dev_clips: int | None = Field(None, ge=2)
    """Dev clips that judge an epoch, drawn once as clips_per_epoch are; null: all."""
    batch: int = Field(8, ge=1)
    """Clips per forward pass."""
    accumulation: int = Field(1, ge=1)
    """Forward passes per optimiser step."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate of the LoRA factors."""
    projector: Literal["frozen", "trained"] = "frozen"
    """Whether the projector between audio encoder and language model is trained too."""
    projector_learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate of the projector, where it is trained."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    warmup_steps: int | None = Field(None, ge=0)
    """Optimiser steps of linear warm-up; give this or warmup_share."""
    warmup_share: float | None = Field(None, ge=0, lt=1)
    """Warm-up as a share of all optimiser steps; 0.1 when neither is given."""
    schedule: Literal["linear", "cosine"] = "cosine"
    """Decay of the learning rate after the warm-up, to zero."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of a fit's gradient; a larger one is scaled down."""
    loss: Literal["answers", "vocabulary"] = "answers"
    """Cross-entropy over the two answers, or over every token of the vocabulary, at the answer position alone."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes of the loss."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs the labels so that both count alike, however many clips they have."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a lower dev loss after which a fit stops early; null trains all epochs."""
    interpolation: float = Field(1.0, gt=0, le=1)
    """Share of what was learnt that the finished adapter keeps, LoRA factors and projector: 1 all of it, less keeps
    more of what the base knew (WiSE-FT, Wortsman et al. 2022). Epochs are judged before it."""
    gradient_checkpointing: bool = False
    """Keep no activations of the language model's layers and compute them again: less memory, about a third slower."""
    checkpoint_steps: int = Field(50, ge=1)
    """Batches between checkpoints; a stopped or killed fit goes on from the newest. Changes no bit."""
    stack: int = Field(6, ge=1)
    """Fits of a study that train together over one frozen base, where there are several; lower it for memory."""
    workers: int = Field(0, ge=0)
    """Processes that prepare clips ahead of the model; any number gives the same bits. 0 prepares them between the
    steps, which on a CPU costs a fiftieth of a step; on a GPU, or with pitch and tempo, take 2 to 4."""

    @model_validator(mode="after")
    def _one_warmup(self) -> "TrainConfig":
        if self.warmup_steps is not None and self.warmup_share is not None:
            raise ValueError("warmup_steps and warmup_share are both given; keep one")
        return self


def count_steps(config: TrainConfig, n_clips: int) -> int:
    """Optimiser steps of a whole fit on n_clips clips per epoch; an epoch's last, smaller step counts."""
    return config.epochs * math.ceil(n_clips / (config.batch * config.accumulation))


def count_warmup_steps(config: TrainConfig, n_steps: int) -> int:
    """Warm-up steps. Raises ConfigError when the warm-up fills the whole run: no step would reach the peak."""
    if config.warmup_steps is None:
        share = DEFAULT_WARMUP_SHARE if config.warmup_share is None else config.warmup_share
        return round(share * n_steps)
    if config.warmup_steps >= n_steps:
        raise ConfigError(
            f"train.warmup_steps is {config.warmup_steps}, but the fit has only {n_steps} optimiser steps "
            f"({config.epochs} epochs); lower it, or give train.warmup_share instead."
        )
    return config.warmup_steps


def learning_rate_factor(step: int, n_steps: int, n_warmup: int, schedule: str) -> float:
    """Factor of the peak learning rate at `step` (0-based): linear rise over n_warmup steps, then decay to zero."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
