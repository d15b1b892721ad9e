"""Which model answers, the shape of its adapters, and how many clips go through it at once."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from listenwell.section import Section

REGEX = "regex:"
NAMED_TARGETS = ("attention", "attention+mlp")
DEVICES = r"auto|cpu|cuda(:\d+)?|mps"


def _usable_targets(targets: str) -> str:
    """Return `targets` as it is. Raises ValueError when it is neither a name nor a regular expression."""
    if targets in NAMED_TARGETS:
        return targets
    if not targets.startswith(REGEX):
        raise ValueError(
            f"'{targets}' is neither of {' and '.join(NAMED_TARGETS)}; write an expression over module paths as "
            f"'{REGEX}.*q_proj'"
        )
    try:
        re.compile(targets.removeprefix(REGEX))
    except re.error as error:
        raise ValueError(f"'{targets}' holds no valid regular expression ({error})") from error
    return targets


def _usable_device(name: str) -> str:
    """Return `name` as it is. Raises ValueError when it is none of DEVICES."""
    if re.fullmatch(DEVICES, name):
        return name
    meant = re.sub(r"(?:gpu|cuda):?(?=\d|$)", "cuda:", name.strip().lower()).rstrip(":")
    hint = f" (did you mean '{meant}'?)" if re.fullmatch(DEVICES, meant) else ""
    raise ValueError(f"is no device{hint}; give auto, cpu, cuda, cuda:1 or mps")


class ModelConfig(Section):
    """The audio language model under study."""

    name: str = Field("small", min_length=1)
    """small (open weights), random (a dry run), a model folder, or a hub id such as Qwen/Qwen2-Audio-7B-Instruct."""
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Precision of the frozen weights; bfloat16 halves memory and changes scores slightly. auto takes bfloat16 on a GPU
    and on a CPU that multiplies it in hardware, float32 elsewhere (there bfloat16 is up to 100 times slower)."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Precision of the language model's linear layers, by bitsandbytes: needs a CUDA device and the extra quant. Tower,
    projector, embeddings and head keep dtype. It makes another base, with other scores and adapters of its own."""
    device: Annotated[str, AfterValidator(_usable_device)] = "auto"
    """auto takes a CUDA device where there is one, otherwise the CPU; or cpu, cuda, cuda:1, mps."""


def find_device_fault(device: str, dtype: str) -> str:
    """Return what is wrong with a device or a precision ("device gpu: is no device ..."), "" where nothing is."""
    try:
        ModelConfig.model_validate({"device": device, "dtype": dtype})
    except ValidationError as error:
        wrong = error.errors()[0]
        message = wrong["msg"].removeprefix("Value error, ")
        return f"{wrong['loc'][0]} {wrong['input']}: {message[0].lower()}{message[1:]}."
    return ""


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
    targets: Annotated[str, AfterValidator(_usable_targets)] = "attention+mlp"
    """Which linear modules of a layer are adapted: attention, attention+mlp, or regex: and an expression that matches
    whole module paths, such as regex:.*(q|v)_proj. It picks among the modules of scope."""
    scope: Literal["language_model", "audio_tower", "both"] = "language_model"
    """Which half of the model is adapted."""
