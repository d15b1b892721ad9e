"""How fast a training step is: one fit, six as a stack, the usual recipe, the matrix rate, and beside other work.

    starter        the step of configs/starter.yaml (batch 16, both halves adapted, projector trained, the default
                   augmentation), alone on the machine and beside two processes that never wait
    stack          six fits as one stack against the same six one by one: the grid of configs/grid_six.yaml, batch 8
    usual_recipe   listenwell's loop against the usual recipe (benchmarks/both_sides.py says what each does), eight
                   language-model layers, batch 8, rank 8, dropout 0.05, at equal precision; and each side's peak memory
    matrix_rate    the operations of that step, counted, against a plain 2048 x 2048 product in the same process
    operations     the starter step's operators by the time they took themselves, and how often they were called

Clips of 1 s. Everything in float32, and in bfloat16 where the processor multiplies it. Sides take turns, and the
fastest step counts, since whatever else the machine does can only slow it down; beside other work it is the median.

    python benchmarks/speed.py               writes benchmarks/results/speed.json, about five minutes
    python benchmarks/speed.py operations    that part alone
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from both_sides import (
    BATCH,
    DROPOUT,
    RANK,
    in_turns,
    make_spec,
    make_waveforms,
    matmul_rate,
    our_step_times,
    own_peak_mib,
    peak_memory_mib,
    precisions,
    usual_step,
    write_backgrounds,
    write_clips,
)
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.config import load_config
from listenwell.model.base_files import write_base
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.settings import ModelConfig
from listenwell.model.small.assembly import DEFAULT_LAYERS, assemble, fetch_parts
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import provenance
from listenwell.train.fit_underway import FitSpec

ROOT = Path(__file__).parents[1]
LAYERS, ROUNDS, STEPS, BUSY = 8, 2, 6, 2
SHOWN = 25


def main() -> None:
    """Measure what is named, or all, and write the JSON; with --child, be one side and print its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(MEASURED))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "speed.json")
    parser.add_argument("--model", type=Path, help="used by this script itself")
    parser.add_argument("--child", help="used by this script itself")
    asked = parser.parse_args()
    quiet_transformers()
    if asked.child:
        run_one_side(asked.model, asked.child)
        print(own_peak_mib())
        return
    found: dict[str, Any] = {"clip_s": 1.0, "seed": 42, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for layers in {LAYERS, DEFAULT_LAYERS}:
            write_base(work / f"model-{layers}", *assemble(fetch_parts(cache_root()), layers), {"layers": layers})
        for name in asked.names or MEASURED:
            found[name] = MEASURED[name](work)
            print(name, found[name], flush=True)
            write_json(asked.out, found | {"provenance": provenance()})


def load_base(work: Path, dtype: str, layers: int = DEFAULT_LAYERS) -> Any:
    return load_model(ModelConfig(name=str(work / f"model-{layers}"), device="cpu", dtype=dtype))


def starter_spec(work: Path, n_steps: int) -> FitSpec:
    """One epoch of the starter study's fit on clips of noise."""
    config = load_config(ROOT / "configs" / "starter.yaml")
    trained = config.train.model_copy(update={"epochs": 1, "clips_per_epoch": None, "warmup_steps": 0})
    clips = write_clips(work, 1.0, trained.batch * (n_steps + 1))
    return FitSpec("starter", config.lora, trained, config.augment, config.seed, clips, write_backgrounds(work))


def measure_starter(work: Path) -> dict[str, Any]:
    """Seconds of a starter step alone and beside BUSY processes that never wait."""
    found = {}
    for dtype in precisions():
        model, spec = load_base(work, dtype), starter_spec(work, STEPS)
        quiet, beside = [], []
        for _ in range(ROUNDS):
            quiet += our_step_times(model, [spec])[0]
            with spinning(BUSY):
                beside += our_step_times(model, [spec])[0]
        found[dtype] = {
            "step_s": min(quiet), "median_s": float(np.median(quiet)),
            "beside_others_s": {"median": float(np.median(beside)), "mean": float(np.mean(beside))},
            "ratio": float(np.median(beside) / np.median(quiet)), "all": {"alone": quiet, "beside_others": beside},
        }  # fmt: skip
    return {"busy_processes": BUSY, "layers": DEFAULT_LAYERS} | found


@contextmanager
def spinning(n: int) -> Iterator[None]:
    """Within the block n processes compute without a pause."""
    children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def measure_stack(work: Path) -> dict[str, Any]:
    """Seconds of a step of all six fits, both ways, and the largest difference of their mean losses."""
    points = load_config(ROOT / "configs" / "grid_six.yaml").search.grid
    lora = [{key.split(".")[1]: value for key, value in point.items()} for point in points]
    clips, bank = write_clips(work, 1.0, BATCH * (STEPS + 1)), write_backgrounds(work)
    specs = [make_spec(f"fit {i}", clips, bank, **point) for i, point in enumerate(lora)]
    found = {}
    for dtype in precisions():
        model, stacked_s, alone_s, differences = load_base(work, dtype), [], [], []
        for _ in range(ROUNDS):
            times, stacked = our_step_times(model, specs)
            stacked_s.append(min(times))
            alone = [our_step_times(model, [spec]) for spec in specs]
            alone_s.append(sum(min(times) for times, _ in alone))
            differences += [
                abs(result.history[-1]["train_loss"] - one.history[-1]["train_loss"])
                for result, (_, [one]) in zip(stacked, alone, strict=True)
            ]
        found[dtype] = {
            "stack_step_s": min(stacked_s), "one_by_one_s": min(alone_s), "ratio": min(alone_s) / min(stacked_s),
            "largest_difference_of_mean_loss": max(differences),
        }  # fmt: skip
    return {"batch": BATCH, "layers": DEFAULT_LAYERS, "fits": points} | found


def measure_usual(work: Path) -> dict[str, Any]:
    """Seconds of the fastest step of both sides at equal precision, and each side's peak memory in float32."""
    found: dict[str, Any] = {"batch": BATCH, "layers": LAYERS, "rank": RANK, "dropout": DROPOUT}
    for dtype in precisions():
        spec = make_spec("ours", write_clips(work, 1.0, BATCH * (STEPS + 1)))
        model, ours = load_base(work, dtype, LAYERS), []
        usual = usual_step(*usual_parts(work / f"model-{LAYERS}", dtype), make_waveforms(1.0, BATCH))
        theirs = []
        for _ in range(ROUNDS):
            ours += our_step_times(model, [spec])[0]
            theirs.append(in_turns({"usual": usual}, {"usual": 1}, 1)["usual"])
        found[dtype] = {"ours_s": min(ours), "usual_s": min(theirs), "ratio": min(theirs) / min(ours)}
    peaks = {side: peak_memory_mib(__file__, work / f"model-{LAYERS}", side) for side in ("loaded", "ours", "usual")}
    return found | {"peak_memory_mib": peaks, "ratio_peak_memory": peaks["ours"] / peaks["usual"]}


def usual_parts(folder: Path, dtype: str = "float32") -> tuple[Any, Any]:
    network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype))
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


def measure_matrix_rate(work: Path) -> dict[str, Any]:
    """The share of the rate of a plain matrix product that a step reaches."""
    found = {}
    for dtype in precisions():
        model, spec = load_base(work, dtype, LAYERS), make_spec("fit", write_clips(work, 1.0, BATCH * (STEPS + 1)))
        rates, steps = [], []
        for _ in range(ROUNDS):
            rates.append(matmul_rate(getattr(torch, dtype)))
            steps.append(min(our_step_times(model, [spec])[0]))
        operations = count_operations(model, spec)
        found[dtype] = {
            "matrix_product_gflops": max(rates) / 1e9, "step_s": min(steps), "operations_of_a_step_g": operations / 1e9,
            "share_of_the_matrix_rate": operations / min(steps) / max(rates),
        }  # fmt: skip
    return {"batch": BATCH, "layers": LAYERS} | found


def count_operations(model: Any, spec: FitSpec) -> float:
    """Floating-point operations of one step: two runs that differ by one batch, so that dev and set-up drop out."""
    in_place = {torch.ops.aten.addmm_: count_product, torch.ops.aten.baddbmm_: count_product}
    counted = []
    for n_batches in (2, 3):
        shorter = make_spec(spec.name, spec.clips[: n_batches * BATCH])
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            our_step_times(model, [shorter])
        counted.append(counter.get_total_flops())
    return float(counted[1] - counted[0])


def count_product(
    added: Sequence[int], left: Sequence[int], right: Sequence[int], out_shape: object = None, **_: object
) -> int:
    """Floating-point operations of a product added in place, by shapes; FlopCounterMode does not know these."""
    return 2 * math.prod(left) * right[-1]


def table_operations(work: Path) -> dict[str, Any]:
    """The starter step's operators by the time that they took themselves, on one thread."""
    found = {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for dtype in precisions():
        model, spec = load_base(work, dtype), starter_spec(work, STEPS)
        our_step_times(model, [spec])
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            our_step_times(model, [spec])
        found[dtype] = table_of(profiled.key_averages(), STEPS + 1)
    torch.set_num_threads(before)
    return {"layers": DEFAULT_LAYERS, "threads": 1} | found


def table_of(events: Sequence[Any], n_steps: int) -> dict[str, Any]:
    """Calls of operators and milliseconds a step, in all and for the SHOWN that took longest."""
    ordered = sorted(events, key=lambda event: -event.self_cpu_time_total)
    return {
        "operator_calls": sum(event.count for event in events if event.key.startswith("aten::")) / n_steps,
        "total_ms": sum(event.self_cpu_time_total for event in events) / n_steps / 1e3,
        "by_operator": {
            event.key: {"ms": event.self_cpu_time_total / n_steps / 1e3, "calls": event.count / n_steps}
            for event in ordered[:SHOWN]
        },
    }


MEASURED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "starter": measure_starter,
    "stack": measure_stack,
    "usual_recipe": measure_usual,
    "matrix_rate": measure_matrix_rate,
    "operations": table_operations,
}


if __name__ == "__main__":
    main()
