"""One training step and its memory: listenwell's loop against the usual recipe, same clips, same adapter shape.

The small model with eight language-model layers, batch 8 of 1 s clips, LoRA rank 8 and dropout 0.05, both sides in one
process and in turns (benchmarks/both_sides.py says what each does). In float32, and where the processor multiplies
bfloat16, in that too: the usual recipe in either, listenwell in either. Elsewhere float32 is the fastest precision
and bfloat16 is left out, being some hundred times slower. Each side's peak memory is of a child process of its own.

    python benchmarks/usual_recipe.py               writes benchmarks/results/usual_recipe.json, about two minutes
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from both_sides import (
    BATCH,
    DROPOUT,
    RANK,
    Clock,
    make_spec,
    make_waveforms,
    our_step_times,
    peak_memory_mib,
    precisions,
    run,
    usual_step,
    write_clips,
)  # fmt: skip
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig

LAYERS, ROUNDS, OUR_STEPS = 8, 3, 6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(model: Path, folder: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds."""
    steps = {dtype: measure_steps(model, folder, dtype, clock) for dtype in precisions()}
    ours = {dtype: step["ours"] for dtype, step in steps.items()}
    fastest = min(ours, key=lambda dtype: ours[dtype])
    peaks = {side: peak_memory_mib(__file__, model, side) for side in ("loaded", "ours", "usual")}
    return {
        "claim": "a training step 15 times as fast as the usual recipe in float32, in half of its memory",
        "batch": BATCH, "clip_s": 1.0, "rank": RANK, "dropout": DROPOUT, "seed": 42,
        "training_step_s": steps,
        "ratio_float32": steps["float32"]["usual"] / ours["float32"],
        "fastest_dtype_of_ours": fastest,
        "ratio_fastest_dtype_against_usual_float32": steps["float32"]["usual"] / ours[fastest],
        "peak_memory_mib": peaks,
        "ratio_peak_memory": peaks["ours"] / peaks["usual"],
        "ratio_peak_memory_above_the_loaded_model":
            (peaks["ours"] - peaks["loaded"]) / (peaks["usual"] - peaks["loaded"]),
    }  # fmt: skip


def measure_steps(model: Path, folder: Path, dtype: str, clock: Clock) -> dict[str, Any]:
    """Seconds of the fastest step of both sides, which take turns, and all of them."""
    ours = load_model(ModelConfig(name=str(model), device="cpu", dtype=dtype))
    spec = make_spec("ours", write_clips(folder, 1.0, BATCH * (OUR_STEPS + 1)))
    usual = usual_step(*usual_parts(model, dtype), make_waveforms(1.0, BATCH))
    usual()
    taken: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(ROUNDS):
        taken["ours"] += our_step_times(ours, [spec], clock)[0]
        taken["usual"].append(seconds_of(usual, clock))
    return {side: min(seconds) for side, seconds in taken.items()} | {"all": taken}


def seconds_of(work: Any, clock: Clock) -> float:
    started = clock()
    work()
    return clock() - started


def usual_parts(folder: Path, dtype: str = "float32") -> tuple[Any, Any]:
    network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[dtype])
    return network, AutoProcessor.from_pretrained(folder)


def run_one_side(model: Path, side: str) -> None:
    """Two steps of one side, or nothing but loading the model."""
    if side == "usual":
        step = usual_step(*usual_parts(model), make_waveforms(1.0, BATCH))
        step()
        step()
        return
    ours = load_model(ModelConfig(name=str(model), device="cpu"))
    if side == "ours":
        with tempfile.TemporaryDirectory() as folder:
            our_step_times(ours, [make_spec("ours", write_clips(Path(folder), 1.0, 2 * BATCH))])


if __name__ == "__main__":
    run(__file__, __doc__, LAYERS, measure, run_one_side)
