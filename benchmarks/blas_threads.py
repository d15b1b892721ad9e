"""A training step that makes its own spectrograms, with numpy's products on all threads and on one.

numpy's BLAS threads spin for a while after every product; torch's threads, which come next, wait for the same cores.
The small model with eight language-model layers, clips of 1 s, LoRA rank 8, both sides in one process and in turns.

    python benchmarks/blas_threads.py               writes benchmarks/results/blas_threads.json, about a minute
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from both_sides import Clock, Work, add_clock, in_turns, make_waveforms, multiplies_bfloat16, take_clock
from linear_cost import our_step
from usual_recipe import LAYERS

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.model.settings import ModelConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance

BATCHES = (1, 8)


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "blas_threads.json")
    add_clock(parser)
    asked = parser.parse_args()
    quiet_transformers()
    clock, counted = take_clock(asked.one_thread)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        built = build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False)
        for dtype in ["float32", "bfloat16"] if multiplies_bfloat16() else ["float32"]:
            model = load_model(ModelConfig(name=str(built), device="cpu", dtype=dtype))
            steps = {n: our_step(model, make_waveforms(1.0, n)) for n in BATCHES}
            rows += [{"dtype": dtype, "batch": n} | measure(step, clock) for n, step in steps.items()]
    write_json(
        asked.out,
        {
            "claim": "a step is faster when numpy's products stay on one thread",
            "layers": LAYERS, "clip_s": 1.0, "seed": 0, "clock": counted, "torch_threads": torch.get_num_threads(),
            "rows": rows,
            "provenance": provenance(),
        },
    )  # fmt: skip
    for row in rows:
        print(row)


def measure(step: Work, clock: Clock) -> dict[str, Any]:
    """Seconds of a step of both sides and their ratio."""

    def on_one_thread() -> None:
        with numpy_on_one_thread():
            step()

    sides: dict[str, Work] = {"all_threads_s": step, "one_thread_s": on_one_thread}
    taken = in_turns(sides, dict.fromkeys(sides, 8), 3, clock)
    return taken | {"ratio": taken["all_threads_s"] / taken["one_thread_s"]}


if __name__ == "__main__":
    main()
