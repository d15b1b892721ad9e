"""Six fits as one stack against the same six one by one: the six-config grid of configs/grid_six.yaml.

The small model with four language-model layers (the starter study's), batch 8 of 1 s clips under the default
augmentation policy, float32, or bfloat16 where the processor multiplies it. Both ways in one process and in turns; a
stack step is one optimiser step of all six. Also compares the losses of both ways, dropout on.

    python benchmarks/stack.py               writes benchmarks/results/stack.json, about two minutes
"""

from pathlib import Path
from typing import Any

import numpy as np
from both_sides import (
    BATCH,
    Clock,
    make_spec,
    our_step_times,
    precisions,
    run,
    write_backgrounds,
    write_clips,
)

from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig

LAYERS, ROUNDS, STEPS = 4, 3, 5
GRID = (
    {"rank": 8, "alpha": 32, "learning_rate": 1e-4, "dropout": 0.05},
    {"rank": 16, "alpha": 64, "learning_rate": 1e-4, "dropout": 0.05},
    {"rank": 32, "alpha": 64, "learning_rate": 1e-4, "dropout": 0.1},
    {"rank": 8, "alpha": 32, "learning_rate": 2e-4, "dropout": 0.05},
    {"rank": 8, "alpha": 32, "learning_rate": 5e-5, "dropout": 0.05},
    {"rank": 8, "alpha": 32, "learning_rate": 1e-4, "dropout": 0.0},
)


def measure(model: Path, folder: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds."""
    return {
        "claim": "six fits as one stack are faster than one by one, to the same losses",
        "batch": BATCH, "clip_s": 1.0, "fits": GRID, "seed": 42,
        "by_dtype": {dtype: measure_one(model, folder, dtype, clock) for dtype in precisions()},
    }  # fmt: skip


def measure_one(folder: Path, work: Path, dtype: str, clock: Clock) -> dict[str, Any]:
    """Seconds of a step of all six, both ways, in the fastest of the rounds."""
    model = load_model(ModelConfig(name=str(folder), device="cpu", dtype=dtype))
    clips, bank = write_clips(work, 1.0, BATCH * (STEPS + 1)), write_backgrounds(work)
    specs = [make_spec(f"fit {i}", clips, bank, **point) for i, point in enumerate(GRID)]
    stacked_s, alone_s, differences = [], [], []
    for _ in range(ROUNDS):
        times, stacked = our_step_times(model, specs, clock)
        stacked_s.append(float(np.median(times)))
        alone = [our_step_times(model, [spec], clock) for spec in specs]
        alone_s.append(sum(float(np.median(times)) for times, _ in alone))
        losses = [result.history[-1]["train_loss"] for result in stacked]
        differences += [
            abs(loss - one.history[-1]["train_loss"]) for loss, (_, [one]) in zip(losses, alone, strict=True)
        ]
    return {
        "stack_step_s": min(stacked_s), "one_by_one_s": min(alone_s), "ratio": min(alone_s) / min(stacked_s),
        "largest_difference_of_mean_loss": max(differences), "all": {"stack": stacked_s, "one_by_one": alone_s},
    }  # fmt: skip


if __name__ == "__main__":
    run(__file__, __doc__, LAYERS, measure)
