"""Six fits as one stack against the same six one by one: the six-config grid of configs/grid_six.yaml.

The small model with four language-model layers (the starter study's), batch 8 of 1 s clips under the default
augmentation policy, float32, or bfloat16 where the processor multiplies it. Both ways in one process and in turns; a
stack step is one optimiser step of all six. Also compares the losses of both ways, dropout on.

    python benchmarks/stack.py               writes benchmarks/results/stack.json, about two minutes
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from both_sides import (
    BATCH,
    Clock,
    add_clock,
    make_spec,
    multiplies_bfloat16,
    our_step_times,
    take_clock,
    write_backgrounds,
    write_clips,
)

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.settings import ModelConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance

LAYERS, ROUNDS, STEPS = 4, 3, 5
GRID = (
    {"rank": 8, "alpha": 32, "learning_rate": 1e-4, "dropout": 0.05},
    {"rank": 16, "alpha": 64, "learning_rate": 1e-4, "dropout": 0.05},
    {"rank": 32, "alpha": 64, "learning_rate": 1e-4, "dropout": 0.1},
    {"rank": 8, "alpha": 32, "learning_rate": 2e-4, "dropout": 0.05},
    {"rank": 8, "alpha": 32, "learning_rate": 5e-5, "dropout": 0.05},
    {"rank": 8, "alpha": 32, "learning_rate": 1e-4, "dropout": 0.0},
)


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model, built for the run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stack.json")
    add_clock(parser)
    asked = parser.parse_args()
    quiet_transformers()
    with tempfile.TemporaryDirectory() as folder:
        built = asked.model or build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False)
        report = measure(built, Path(folder), *take_clock(asked.one_thread))
    write_json(asked.out, report)
    print({key: value for key, value in report.items() if key != "provenance"}, asked.out)


def measure(model: Path, folder: Path, clock: Clock, counted: str) -> dict[str, Any]:
    """Everything the JSON holds."""
    dtypes = ["float32", "bfloat16"] if multiplies_bfloat16() else ["float32"]
    return {
        "claim": "six fits as one stack are faster than one by one, to the same losses",
        "layers": LAYERS, "batch": BATCH, "clip_s": 1.0, "fits": GRID, "seed": 42, "clock": counted,
        "by_dtype": {dtype: measure_one(model, folder, dtype, clock) for dtype in dtypes},
        "provenance": provenance(),
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
    main()
