"""What share of this machine's matrix rate a training step reaches, and where the rest of its time goes.

The small model with eight language-model layers, batch 8 of 1 s clips, one fit. The rate is that of a plain 2048 x 2048
product of the same precision in the same process; the step's operations are counted by torch's FlopCounterMode; where
the time goes is what torch's profiler says of each kind of operation.

    python benchmarks/machine_share.py       writes benchmarks/results/machine_share.json, about a minute
"""

from pathlib import Path
from typing import Any

import torch
from both_sides import (
    BATCH,
    Clock,
    make_spec,
    matmul_rate,
    our_step_times,
    precisions,
    run,
    write_clips,
)
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig

LAYERS, STEPS, ROUNDS = 8, 6, 3
KINDS = {
    "matrix products of the base": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn::_linear_pointwise"),
    "adapters and attention": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product", "aten::_softmax"),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution"),
    "copies and precision": ("aten::copy_", "aten::cat", "aten::fill_", "aten::empty", "aten::index"),
    "optimiser": ("Optimizer", "aten::_foreach", "aten::lerp", "aten::addc", "aten::sqrt", "aten::linalg"),
}


def measure(model: Path, folder: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds."""
    return {
        "claim": "a training step reaches half of the rate of a plain matrix product of the same precision",
        "batch": BATCH, "clip_s": 1.0, "seed": 42,
        "by_dtype": {dtype: measure_one(model, folder, dtype, clock) for dtype in precisions()},
    }  # fmt: skip


def measure_one(folder: Path, work: Path, dtype: str, clock: Clock) -> dict[str, Any]:
    """Rates, the share reached, and the share of the step's time by kind of operation."""
    model = load_model(ModelConfig(name=str(folder), device="cpu", dtype=dtype))
    spec = make_spec("fit", write_clips(work, 1.0, BATCH * (STEPS + 1)))
    rates, steps = [], []
    for _ in range(ROUNDS):
        rates.append(matmul_rate(getattr(torch, dtype), clock=clock))
        steps.append(min(our_step_times(model, [spec], clock)[0]))
    operations = count_operations(model, spec)
    return {
        "matrix_product_gflops": max(rates) / 1e9,
        "step_s": min(steps),
        "operations_of_a_step_g": operations / 1e9,
        "share_of_the_matrix_rate": operations / min(steps) / max(rates),
        "share_of_the_time": time_by_kind(model, spec),
    }


def count_operations(model: Any, spec: Any) -> float:
    """Floating-point operations of one step: two runs that differ by one batch, so that dev and set-up drop out."""
    counted = []
    for n_batches in (2, 3):
        shorter = make_spec(spec.name, spec.clips[: n_batches * BATCH])
        with FlopCounterMode(display=False) as counter:
            our_step_times(model, [shorter])
        counted.append(counter.get_total_flops())
    return float(counted[1] - counted[0])


def time_by_kind(model: Any, spec: Any) -> dict[str, float]:
    """The share of each kind of operation in the time that all operations took themselves."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        our_step_times(model, [spec])
    taken = dict.fromkeys([*KINDS, "element by element, and the rest"], 0.0)
    for event in profiled.key_averages():
        kind = next((kind for kind, starts in KINDS.items() if event.key.startswith(starts)), list(taken)[-1])
        taken[kind] += event.self_cpu_time_total
    return {kind: time / sum(taken.values()) for kind, time in taken.items()}


if __name__ == "__main__":
    run(__file__, __doc__, LAYERS, measure)
