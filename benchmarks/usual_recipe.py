"""One training step and its memory: listenwell's loop against the usual recipe, same clips, same adapter shape.

The small model with eight language-model layers, batch 8 of 1 s clips, LoRA rank 8 and dropout 0.05, both sides in one
process and in turns (benchmarks/both_sides.py says what each does). In float32, and where the processor multiplies
bfloat16, in that too: the usual recipe in either, listenwell in either. Elsewhere float32 is the fastest precision
and bfloat16 is left out, being some hundred times slower. Each side's peak memory is of a child process of its own.

    python benchmarks/usual_recipe.py               writes benchmarks/results/usual_recipe.json, about two minutes
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from both_sides import (
    BATCH,
    DROPOUT,
    RANK,
    Clock,
    add_clock,
    make_spec,
    make_waveforms,
    multiplies_bfloat16,
    our_step_times,
    own_peak_mib,
    peak_memory_mib,
    take_clock,
    usual_step,
    write_clips,
)  # fmt: skip
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.settings import ModelConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance

LAYERS, ROUNDS, OUR_STEPS = 8, 3, 6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure both sides and write the JSON; with --peak SIDE, run one side alone and print its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peak", choices=("ours", "usual", "loaded"), help="used by this script itself")
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model, built for the run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "usual_recipe.json")
    add_clock(parser)
    asked = parser.parse_args()
    quiet_transformers()
    if asked.peak:
        run_one_side(asked.model, asked.peak)
        print(own_peak_mib())
        return
    with tempfile.TemporaryDirectory() as folder:
        built = asked.model or build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False)
        report = measure(built, Path(folder), *take_clock(asked.one_thread))
    write_json(asked.out, report)
    print({key: value for key, value in report.items() if "ratio" in key}, asked.out)


def measure(model: Path, folder: Path, clock: Clock, counted: str) -> dict[str, Any]:
    """Everything the JSON holds."""
    dtypes = ["float32", "bfloat16"] if multiplies_bfloat16() else ["float32"]
    steps = {dtype: measure_steps(model, folder, dtype, clock) for dtype in dtypes}
    ours = {dtype: step["ours"] for dtype, step in steps.items()}
    fastest = min(ours, key=lambda dtype: ours[dtype])
    peaks = {
        side: peak_memory_mib(__file__, "--peak", side, "--model", str(model)) for side in ("loaded", "ours", "usual")
    }
    return {
        "claim": "a training step 15 times as fast as the usual recipe in float32, in half of its memory",
        "layers": LAYERS, "batch": BATCH, "clip_s": 1.0, "rank": RANK, "dropout": DROPOUT, "seed": 42,
        "clock": counted, "training_step_s": steps,
        "ratio_float32": steps["float32"]["usual"] / ours["float32"],
        "fastest_dtype_of_ours": fastest,
        "bfloat16": "measured" if "bfloat16" in dtypes else "not measured: this processor does not multiply bfloat16",
        "ratio_fastest_dtype_against_usual_float32": steps["float32"]["usual"] / ours[fastest],
        "peak_memory_mib": peaks,
        "ratio_peak_memory": peaks["ours"] / peaks["usual"],
        "ratio_peak_memory_above_the_loaded_model":
            (peaks["ours"] - peaks["loaded"]) / (peaks["usual"] - peaks["loaded"]),
        "provenance": provenance(),
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
    main()
