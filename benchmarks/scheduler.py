"""The scheduler on paper against Ray: 1, 2 and 4 workers on this machine, eight stacks of the random model.

Every stack is one fit of 1 to 6 epochs, in a mixed order. What the prediction knows is measured beside it, round for
round: the duration of each stack, trained here one after another; how long a worker takes to start, which is what a
single small fit takes longer on Ray than here; and at which part of its full speed each of n processes runs that only
compute, before and after each run (so cores that are not there, cores that are halves of one, and whoever else works
on the machine are all in it). Then Ray trains the same stacks on 1, 2 and 4 workers, each time started anew and into an
empty folder. One thread a worker. The bar: the median of the rounds within 30 % of its prediction.

    OMP_NUM_THREADS=1 python benchmarks/scheduler.py    writes benchmarks/results/scheduler.json, some quiet minutes
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from both_sides import write_backgrounds, write_clips

from listenwell.atomic_files import write_json
from listenwell.config import Config, change_config, load_config
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.run_folder import RunFolder, provenance
from listenwell.study.fit_request import FitRequest
from listenwell.study.fitting import fit_all
from listenwell.study.parts import DEV, TRAIN, Parts
from listenwell.study.reading import set_aside_unreadable
from listenwell.study.scheduling import simulate

EPOCHS = (6, 2, 4, 1, 5, 3, 2, 5)
N_CLIPS, N_DEV_CLIPS, CLIP_S = 64, 16, 1.0
WORKERS = (1, 2, 4)
SPIN_S = 1.5
BAR = 0.3


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scheduler.json")
    asked = parser.parse_args()
    quiet_transformers()
    torch.set_num_threads(1)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: numpy's threads here would not be those of Ray's workers.")
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measure_round(Path(folder), number) for number in range(asked.rounds)]
    ratios = {
        n: float(np.median([each["measured_s"][n] / each["predicted_s"][n] for each in rounds]))
        for n in map(str, WORKERS)
    }
    report = {
        "claim": "list scheduling of measured stacks predicts what Ray takes on 1, 2 and 4 workers within 30 %",
        "epochs_of_the_stacks": EPOCHS, "clips": N_CLIPS, "clip_s": CLIP_S, "model": "random", "seed": 42,
        "measured_over_predicted": ratios,
        "holds": all(abs(ratio - 1.0) <= BAR for ratio in ratios.values()),
        "load_of_the_machine": os.getloadavg(), "rounds": rounds, "provenance": provenance(),
    }  # fmt: skip
    write_json(asked.out, report)
    print({key: report[key] for key in ("measured_over_predicted", "holds", "load_of_the_machine")}, asked.out)


def measure_round(folder: Path, number: int) -> dict[str, Any]:
    """One prediction, and what Ray takes."""
    config, parts = describe(folder)
    model = load_model(config.model)
    fit_s(config, [1], model, parts, folder / f"warm-{number}")
    before = spin(1)
    stacks_s = stacks_here_s(config, model, parts, folder / f"here-{number}")
    full = (before + spin(1)) / 2
    start_s = on_ray_s(config, [1], model, parts, folder / f"start-{number}", 1) - min(stacks_s)
    found: dict[str, Any] = {"stacks_s": stacks_s, "start_s": start_s, "speed": {}, "predicted_s": {}, "measured_s": {}}
    for n_workers in WORKERS:
        busy = range(1, n_workers + 1)
        before_each = [spin(n) for n in busy]
        measured = on_ray_s(config, EPOCHS, model, parts, folder / f"ray-{number}-{n_workers}", n_workers)
        speeds = [(first + spin(n)) / 2 / full for n, first in zip(busy, before_each, strict=True)]
        predicted = simulate(stacks_s, n_workers, start_s, lambda n, own=tuple(speeds): own[n - 1])
        found["speed"][str(n_workers)] = speeds
        found["predicted_s"][str(n_workers)] = predicted.end_s
        found["measured_s"][str(n_workers)] = measured
    print(f"round {number}: predicted {found['predicted_s']}, measured {found['measured_s']}", file=sys.stderr)
    return found


def describe(folder: Path) -> tuple[Config, Parts]:
    """The config of all fits, and the clips they train on."""
    clips, _ = set_aside_unreadable(write_clips(folder, CLIP_S, N_CLIPS + N_DEV_CLIPS), 0.0)
    bank = write_backgrounds(folder)
    config = load_config(None, ["model.name=random", "model.device=cpu", "train.stack=1", "executor.cpus=1"])
    return config, Parts({TRAIN: clips[N_DEV_CLIPS:], DEV: clips[:N_DEV_CLIPS]}, {TRAIN: bank, DEV: bank})


def requests_of(config: Config, epochs: Any, parts: Parts) -> list[FitRequest]:
    """One fit, so one stack, for every number of epochs; its seed is its place."""
    configs = [change_config(config, {"train.epochs": n, "seed": i}, "here") for i, n in enumerate(epochs)]
    return [FitRequest(f"fit-{i}", each, parts, config) for i, each in enumerate(configs)]


def fit_s(config: Config, epochs: Any, model: AudioLanguageModel, parts: Parts, output: Path) -> float:
    """Seconds that fits take, wherever the config has them trained."""
    began = time.perf_counter()
    fit_all(requests_of(config, epochs, parts), model, RunFolder(output))
    return time.perf_counter() - began


def stacks_here_s(config: Config, model: AudioLanguageModel, parts: Parts, output: Path) -> list[float]:
    """Seconds of every stack, trained one after another in this process: the times between their last files."""
    began = time.time()
    fit_s(config, EPOCHS, model, parts, output)
    ends = sorted(path.stat().st_mtime for path in output.glob("fits/*/spec.json"))
    return [end - start for start, end in zip([began, *ends], ends, strict=False)]


def on_ray_s(
    config: Config, epochs: Any, model: AudioLanguageModel, parts: Parts, output: Path, n_workers: int
) -> float:
    """Seconds that fits take on so many workers of a Ray that has just started."""
    ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    spread = config.model_copy(update={"executor": config.executor.model_copy(update={"kind": "ray"})})
    try:
        return fit_s(spread, epochs, model, parts, output)
    finally:
        ray.shutdown()


SPIN = """
import sys, time
rounds, values = 0, list(range(1000))
sys.stdin.readline()
until = time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < until:
    sum(values)
    rounds += 1
print(rounds)
"""


def spin(n_processes: int) -> float:
    """Rounds a second of each of so many processes that only compute, the mean over them."""
    command = [sys.executable, "-S", "-c", SPIN, str(SPIN_S)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)
    ]
    time.sleep(0.2)
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return float(np.mean([int(process.communicate()[0]) for process in running])) / SPIN_S


if __name__ == "__main__":
    main()
