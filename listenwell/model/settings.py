"""Which model answers, how many clips go through it at once, the shape of its adapters and the modules they change.

The model's family knows its halves and the names of their linear modules; an expression picks among these by full
path, as PEFT's target_modules does when it is a string (the whole path must match).
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from listenwell.errors import ConfigError
from listenwell.section import Section

REGEX = "regex:"
EVERY_LINEAR = "attention+mlp"
NAMED_TARGETS = ("attention", EVERY_LINEAR)
HALVES = ("language_model", "audio_tower")
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
    """Precision of the language model's linear layers, by bitsandbytes: needs a CUDA device and the extra quant. The
    rest keeps dtype. It makes another base, with other scores and adapters of its own."""
    device: Annotated[str, AfterValidator(_usable_device)] = "auto"
    """auto takes a CUDA device where there is one, otherwise the CPU; or cpu, cuda, cuda:1, mps."""


def on_device(device: str, dtype: str) -> ModelConfig:
    """The small model on a device in a precision. Raises ConfigError for what is none ("device gpu: is no device")."""
    try:
        return ModelConfig.model_validate({"device": device, "dtype": dtype})
    except ValidationError as error:
        wrong = error.errors()[0]
        message = wrong["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{wrong['loc'][0]} {wrong['input']}: {message[0].lower()}{message[1:]}.") from error


class ScoringConfig(Section):
    """How clips are batched for scoring. Clips are never padded to 30 s; batches hold clips of similar length."""

    batch_seconds: float = Field(32.0, gt=0)
    """Seconds of audio in one forward pass, after short clips are padded; lower it when memory runs out."""
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


def kind_of(config: LoraConfig) -> str:
    """Which modules of the scope may be changed; an expression picks among all."""
    return EVERY_LINEAR if config.targets.startswith(REGEX) else config.targets


def match_targets(names: Sequence[str], config: LoraConfig) -> list[str]:
    """Those of `names` that the config's expression matches; all where it has none. Raises ConfigError for no match."""
    if not config.targets.startswith(REGEX):
        return list(names)
    expression = re.compile(config.targets.removeprefix(REGEX))
    matched = [name for name in names if expression.fullmatch(name)]
    if not matched:
        raise ConfigError(
            f"lora.targets '{config.targets}' matches none of the {len(names)} linear modules of scope {config.scope}; "
            f"it must match a whole path such as {names[0]}: begin it with '.*', or choose another lora.scope."
        )
    return matched
