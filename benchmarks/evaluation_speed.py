"""How long `listenwell evaluate` and `compare` take on another program's predictions, and how much memory they hold.

Each command runs as its own process on made tables of 20 clips a group. Writes
benchmarks/results/evaluation_speed.json.

    python benchmarks/evaluation_speed.py
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.special import expit

from listenwell.atomic_files import write_json
from listenwell.data.csv_rows import write_rows
from listenwell.random_streams import stream
from listenwell.run_folder import provenance

SEED = 42
SIZES = (21_340, 1_000_000)
CLIPS_PER_GROUP = 20
COLUMNS = "id=path,label=y,score=prob,group=spk"


def main() -> None:
    """Time every command at every size and write the JSON."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [each for n_rows in SIZES for each in time_commands(Path(folder), n_rows)]
    report = {
        "claim": "21,340 rows in under 10 s; 10^6 rows in under a minute and 2 GiB; draws of groups included",
        "seed": SEED,
        "runs": runs,
        "provenance": provenance(),
    }
    out = Path(__file__).parent / "results" / "evaluation_speed.json"
    write_json(out, report)
    print(json.dumps(runs, indent=1), out)


def time_commands(folder: Path, n_rows: int) -> list[dict[str, Any]]:
    """Time evaluate on one made table and compare on two."""
    first, second = folder / f"{n_rows}-a.csv", folder / f"{n_rows}-b.csv"
    for number, path in enumerate((first, second)):
        write_made_predictions(path, n_rows, number)
    commands = {"evaluate": ["evaluate", str(first)], "compare": ["compare", str(first), str(second)]}
    return [{"command": name, "rows": n_rows, **measure(command)} for name, command in commands.items()]


def write_made_predictions(path: Path, n_rows: int, number: int) -> None:
    """Write probabilities of the same clips and groups for every `number`, its own noise in each."""
    shared, own = stream(SEED, "clips", n_rows), stream(SEED, "noise", n_rows, number)
    group = shared.integers(max(n_rows // CLIPS_PER_GROUP, 4), size=n_rows)
    effects = 0.5 * shared.normal(size=n_rows)[group]
    probability = expit(own.normal(size=n_rows) + 1.5 * (group % 2) + effects)
    rows = (
        (f"audio/clip_{i:07d}.wav", str(g % 2), f"{p:.6f}", f"spk{g}")
        for i, (g, p) in enumerate(zip(group.tolist(), probability.tolist(), strict=True))
    )
    write_rows(path, ("path", "y", "prob", "spk"), rows)


def measure(command: list[str]) -> dict[str, float]:
    """Run listenwell in a process of its own; seconds by the clock and of processor, and its peak memory."""
    script = "import resource, sys; from listenwell.cli.main import app\n"
    script += "try: app(sys.argv[1:])\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-c", script, *command, "--columns", COLUMNS], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_gib": round(int(answer.stdout.splitlines()[-1]) / 2**20, 2),
    }


if __name__ == "__main__":
    main()
