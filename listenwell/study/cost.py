"""What a study costs, on paper: operations, bytes and seconds. Arithmetic only; reads and loads nothing.

Multiplying T tokens by P weights takes 2 P T operations (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). The base
is frozen, so a training step takes 2 P T forward and 2 P T backward, for the gradients that pass through, and never the
third 2 P T of the weights' own gradients; gradient checkpointing adds one more forward. LoRA's own factors, far
smaller, take all three. Attention's part that grows with the square of the length is left out: a clip of some seconds
is shorter than the width, and the part below a tenth. A clip counts once per fit: what a stack saves by sharing clips
under equal plans is not known before the draw, so operations are an upper bound there.
"""

from dataclasses import dataclass

POSITIONS_PER_S = 50
"""Positions of the tower per second of audio: 100 spectrogram frames, halved by its second convolution."""
TOKENS_PER_S = 25
PROMPT_TOKENS = 30
"""Tokens of question and answer around a clip, about what the default question takes."""
KEPT_VALUES = 30
"""Values kept per position, layer and unit of width for the backward pass: inputs of norms and attention, dropped
inputs and masks of LoRA, the feed-forward's inner values (2.7 widths in the language model, 4 in the tower), 26 in all;
and what passes through the backward pass. The language model's last layer, computed where answers are read, keeps next
to nothing."""
FIT_STATE_COPIES = 5
"""Float32 values per adapter parameter: itself, its gradient, AdamW's two moments, the best epoch's copy."""
PLAN_BYTES = 400
"""One line of plans.jsonl."""
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's size. Parameters without embeddings; all_parameters with everything that is loaded."""

    tower_parameters: int
    language_parameters: int
    all_parameters: int
    width: int
    layers: int
    bytes_per_weight: int
    tower_width: int = 0
    tower_layers: int = 0
    quantised_parameters: int = 0
    bytes_per_quantised: float = 0.0


@dataclass(frozen=True, slots=True)
class FitCost:
    """One fit as it enters the sum. clip_s: mean seconds of a clip as the model hears it."""

    n_steps: int
    epochs: int
    n_clips_heard: int
    n_dev_clips: int
    clip_s: float
    adapter_parameters: int
    trains_tower: bool
    recomputes: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A device to plan for: peak operations per second in bfloat16 without sparsity, memory, and the data sheet."""

    name: str
    peak_flops: float
    memory_bytes: float
    source: str


REACHED_SHARE = 0.3
"""Share of the peak that short clips are assumed to reach; a probe on the device itself replaces it."""
DEVICES = (
    Device("NVIDIA L4", 121e12, 24e9, "NVIDIA L4 data sheet (half of the value with sparsity)"),
    Device("NVIDIA A100 80 GB", 312e12, 80e9, "NVIDIA A100 data sheet"),
    Device("NVIDIA H100 SXM", 989e12, 80e9, "NVIDIA H100 data sheet (half of the value with sparsity)"),
)


def clip_tokens(clip_s: float) -> float:
    """Tokens of the language model for one clip with its question."""
    return TOKENS_PER_S * clip_s + PROMPT_TOKENS


def forward_flops(shape: Shape, clip_s: float) -> float:
    """Operations to score one clip."""
    tower = 2.0 * shape.tower_parameters * POSITIONS_PER_S * clip_s
    return tower + 2.0 * shape.language_parameters * clip_tokens(clip_s)


def training_flops(shape: Shape, fit: FitCost) -> float:
    """Operations of a fit's training, dev epochs included."""
    tower = shape.tower_parameters * POSITIONS_PER_S * fit.clip_s
    language = shape.language_parameters * clip_tokens(fit.clip_s)
    passes = 6.0 if fit.recomputes else 4.0
    per_clip = (4.0 if fit.trains_tower else 2.0) * tower + passes * language
    per_clip += 6.0 * fit.adapter_parameters * clip_tokens(fit.clip_s)
    # the frozen tower hears dev once for all fits; only one that is trained hears it again
    per_dev_clip = 2.0 * language + (2.0 * tower if fit.trains_tower else 0.0)
    return fit.n_clips_heard * per_clip + fit.epochs * fit.n_dev_clips * per_dev_clip


def weights_bytes(shape: Shape) -> float:
    """The frozen base."""
    plain = shape.all_parameters - shape.quantised_parameters
    return plain * shape.bytes_per_weight + shape.quantised_parameters * shape.bytes_per_quantised


def adapters_bytes(fits: list[FitCost]) -> float:
    """Adapters, gradients, optimiser and best copies of fits that train together."""
    return float(sum(4 * FIT_STATE_COPIES * fit.adapter_parameters for fit in fits))


def activations_bytes(shape: Shape, fits: list[FitCost], batch: int) -> float:
    """What the backward pass keeps while these fits, `batch` clips each, train together."""
    tokens = sum(batch * clip_tokens(fit.clip_s) for fit in fits)
    positions = sum(batch * POSITIONS_PER_S * fit.clip_s for fit in fits if fit.trains_tower)
    tower = positions * shape.tower_width * shape.tower_layers * KEPT_VALUES
    # checkpointing keeps each layer's input and one layer whole
    recomputes = any(fit.recomputes for fit in fits)
    in_layers = shape.layers + KEPT_VALUES if recomputes else KEPT_VALUES * max(1, shape.layers - 1)
    return (tokens * shape.width * in_layers + tower) * shape.bytes_per_weight


def disk_bytes(fits: list[FitCost], stack: int) -> float:
    """Adapters and plans of all fits, and the checkpoints of the largest stack."""
    kept = sum(4.0 * fit.adapter_parameters + PLAN_BYTES * fit.n_clips_heard for fit in fits)
    largest = sorted((fit.adapter_parameters for fit in fits), reverse=True)[:stack]
    return kept + CHECKPOINTS_KEPT * 4.0 * (FIT_STATE_COPIES - 1) * sum(largest)


def adapter_parameters(linears: list[tuple[int, int]], rank: int) -> int:
    """Parameters of LoRA of that rank on linear modules of (inputs, outputs)."""
    return sum(rank * (n_in + n_out) for n_in, n_out in linears)
