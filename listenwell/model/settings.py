"""Which model answers, the shape of its adapters, and how many clips go through it at once."""

from typing import Literal

from pydantic import Field

from listenwell.section import Section


class ModelConfig(Section):
    """The audio language model under study."""

    name: str = Field("small", min_length=1)
    """small (open weights), random (a dry run), a model folder, or a hub id such as Qwen/Qwen2-Audio-7B-Instruct."""
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Precision of the frozen weights; bfloat16 halves memory and changes scores slightly. auto takes bfloat16 on a GPU
    and on a CPU that multiplies it in hardware, float32 elsewhere (there bfloat16 is up to 100 times slower)."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto takes a CUDA device where there is one, otherwise the CPU; or cpu, cuda, cuda:1, mps."""


class ScoringConfig(Section):
    """How clips are batched for scoring. Clips are never padded to 30 s; batches hold clips of similar length."""

    batch_seconds: float = Field(32.0, gt=0)
    """Seconds of audio in one forward pass, after short clips are lengthened; lower it when memory runs out."""
    workers: int | None = Field(None, ge=1)
    """Batches scored at the same time, each on one thread; null is one per core (one on a GPU). Changes no bit."""


class LoraConfig(Section):
    """The shape of an adapter."""

    rank: int = Field(8, ge=1, le=512)
    """Rank of the change."""
    alpha: float = Field(32.0, gt=0)
    """Scale: the change is multiplied by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Share of an adapted module's inputs set to zero on the adapter's path while training."""
    targets: Literal["attention", "attention+mlp"] = "attention+mlp"
    """Which linear modules of a layer are adapted."""
    scope: Literal["language_model", "audio_tower", "both"] = "language_model"
    """Which half of the model is adapted."""
