"""Large tables, folders and ledgers, score tables of a million rows, and an hour of plans: time and memory, by size.

    manifest   read a table of 10^4, 10^5, 10^6 clips that names their durations
    folder     `listenwell init` on 10^3, 10^4, 10^5 short WAV files, which it opens all
    ledger     10^2, 10^3, 10^4 fits: the run noted, listed, and looked through for waste
    plans      the default policy with most other stages switched on, for 2,000 clips and 80 backgrounds, for as many
               plans as 1,000 a second make in an hour; the memory at every tenth of them
    evaluate   `listenwell evaluate` on another program's predictions, 21,340 and 10^6 rows, 20 clips a group
    compare    `listenwell compare` on two such tables

Every size in a process of its own. The exponent is the slope of log seconds over log size between the last two sizes:
1 is linear. Eight hours of audio: benchmarks/long_file.py.

    python benchmarks/load.py [NAME ...]           writes benchmarks/results/load.json, half an hour
"""

import argparse
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.special import expit

from listenwell.augment.plan import AugmentConfig, draw_plan
from listenwell.cli.main import app
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.data.clip import Background, Clip
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.data.tables import write_rows
from listenwell.fits.ledger import open_ledger, requested_fits
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json, write_text
from listenwell.storage.run_folder import RunFolder, provenance
from listenwell.tasks.init import start_project
from listenwell.tasks.runs import list_runs

RESULTS = Path(__file__).parent / "results" / "load.json"
CLIPS_PER_GROUP, FILES_PER_FOLDER = 20, 100
PLANNED_CLIPS, PLANNED_BACKGROUNDS = 2_000, 80
Measured = dict[str, float | list[float]]


def main() -> None:
    """Measure what is named, or all, and write the JSON; with --one, measure one size and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(SIZES))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help="used by this script itself")
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(LOADS[asked.one[0]](Path(folder), int(asked.one[1]))))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))["loads"] if RESULTS.is_file() else {}
    for name in asked.names or SIZES:
        rows = [{"n": n} | measure_apart(name, n) for n in SIZES[name]]
        found[name] = {"rows": rows} | ({"exponent": exponent(rows)} if len(rows) > 1 else {})
        found[name]["provenance"] = provenance()
        print(name, json.dumps(rows), flush=True)
        write_json(RESULTS, {
            "claim": "time and memory grow no faster than the size, and an hour of plans takes no memory",
            "seed": 42, "loads": found,
        })  # fmt: skip


def measure_apart(name: str, n: int) -> Measured:
    """One size in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(n)]
    answer: Measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return answer


def exponent(rows: list[dict[str, Any]]) -> float:
    before, last = rows[-2:]
    return math.log(last["processor_s"] / before["processor_s"]) / math.log(last["n"] / before["n"])


def timed(work: Callable[[], object]) -> Measured:
    """Seconds of the processor and by the clock, and the process's peak memory in MiB, before and after."""
    before = peak_mib()
    began, began_clock = time.process_time(), time.perf_counter()
    work()
    return {
        "processor_s": time.process_time() - began,
        "wall_s": time.perf_counter() - began_clock,
        "peak_mib_before": before,
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_large_manifest(folder: Path, n: int) -> Measured:
    table = folder / "clips.csv"
    write_manifest(table, (made_clip(folder, i) for i in range(n)))
    return timed(lambda: read_manifest(table)) | {"table_mib": table.stat().st_size / 2**20}


def made_clip(folder: Path, i: int) -> Clip:
    group = i // CLIPS_PER_GROUP
    label = "SPEECH" if group % 2 else "NONSPEECH"
    path = folder / "audio" / f"g{group}" / f"{i}.wav"
    return Clip(f"clip-{i}", path, 0.0, 1.0, label, f"g{group}", f"audio/g{group}/{i}.wav", "made", "CC0-1.0")


def init_large_folder(folder: Path, n: int) -> Measured:
    samples = (0.1 * stream(42, "load", "sound").standard_normal(400)).astype(np.float32)
    for i in range(n):
        group = i // FILES_PER_FOLDER
        path = folder / ("speech" if group % 2 else "nonspeech") / f"g{group}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE_HZ)
    return timed(lambda: start_project(folder))


def look_through_ledger(folder: Path, n: int) -> Measured:
    run = RunFolder(folder / "run")
    write_text(run.config, f"output: {json.dumps(str(run.root))}\n")
    wanted = [f"{i:064x}"[::-1] for i in range(n)]
    for each in wanted:
        write_text(run.fit(each) / "spec.json", "{}")

    def work() -> None:
        open_ledger(run, wanted)
        (state,) = list_runs(run.root)
        if len(requested_fits(run)) != n or state.n_done != n:
            raise SystemExit(f"{state.n_done} of {n} fits were found.")

    return timed(work)


def plan_for_an_hour(folder: Path, n: int) -> Measured:
    on = {"probability": 0.3}
    names = ("speed", "pitch", "tempo", "reverb", "band", "gain")
    policy = AugmentConfig.model_validate(dict.fromkeys(names, on))
    clips = [made_clip(folder, i) for i in range(PLANNED_CLIPS)]
    noises = [
        Background(f"b{i}", folder / f"{i}.wav", 20.0, "noise", f"b{i}", "made", "CC0-1.0")
        for i in range(PLANNED_BACKGROUNDS)
    ]
    samples = (0.1 * stream(42, "load", "sound").standard_normal(SAMPLE_RATE_HZ)).astype(np.float32)
    peaks: list[float] = []

    def work() -> None:
        for i in range(n):
            draw_plan(policy, clips[i % len(clips)], samples, noises, 128, 42, i // len(clips))
            if (i + 1) % (n // 10) == 0:
                peaks.append(peak_mib())

    measured = timed(work)
    return measured | {"peak_mib_by_tenth": peaks, "plans_per_processor_second": n / float(measured["processor_s"])}  # type: ignore[arg-type]


def evaluate_predictions(folder: Path, n: int) -> Measured:
    return time_command("evaluate", write_predictions(folder, n, 0))


def compare_predictions(folder: Path, n: int) -> Measured:
    return time_command("compare", write_predictions(folder, n, 0), write_predictions(folder, n, 1))


def time_command(name: str, *tables: Path) -> Measured:
    def work() -> None:
        with redirect_stdout(io.StringIO()):
            app([name, *map(str, tables), "--columns", "id=path,label=y,score=prob,group=spk"], standalone_mode=False)

    return timed(work)


def write_predictions(folder: Path, n: int, number: int) -> Path:
    """Probabilities of the same clips and groups for every `number`, its own noise in each."""
    shared, own = stream(42, "clips", n), stream(42, "noise", n, number)
    group = shared.integers(max(n // CLIPS_PER_GROUP, 4), size=n)
    effects = 0.5 * shared.normal(size=n)[group]
    probability = expit(own.normal(size=n) + 1.5 * (group % 2) + effects)
    rows = ((f"clip_{i:07d}", str(g % 2), f"{probability[i]:.6f}", f"spk{g}") for i, g in enumerate(group))
    write_rows(folder / f"{number}.csv", ("path", "y", "prob", "spk"), rows)
    return folder / f"{number}.csv"


LOADS: dict[str, Callable[[Path, int], Measured]] = {
    "manifest": read_large_manifest,
    "folder": init_large_folder,
    "ledger": look_through_ledger,
    "plans": plan_for_an_hour,
    "evaluate": evaluate_predictions,
    "compare": compare_predictions,
}
SIZES = {
    "manifest": (10_000, 100_000, 1_000_000),
    "folder": (1_000, 10_000, 100_000),
    "ledger": (100, 1_000, 10_000),
    "plans": (3_600_000,),
    "evaluate": (21_340, 1_000_000),
    "compare": (21_340, 1_000_000),
}


if __name__ == "__main__":
    main()
