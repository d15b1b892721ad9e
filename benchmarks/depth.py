"""How deep should the small model's language model be cut? Measured on dev groups of the study pool.

Every depth is aligned by the shipped recipe for the same number of steps and scored zero-shot on the dev groups, clean,
at 5 dB and at 200 ms. Sealed and out-of-corpus recordings are not touched. Writes benchmarks/results/depth.json.

    python benchmarks/depth.py --depths 2 4 8 --steps 200
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.model.align import AlignmentConfig
from listenwell.model.loading import quiet_transformers
from listenwell.progress import shown_progress
from listenwell.run_folder import provenance
from listenwell.study.aligning import run_alignment


def main() -> None:
    """Align and measure every depth, and write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    quiet_transformers()
    out = Path(__file__).parent / "results" / "depth.json"
    found: dict[str, Any] = {}
    for depth in arguments.depths:
        found[str(depth)] = measure_depth(depth, arguments.steps)
        write_json(
            out, {"steps": arguments.steps, "depths": found, "cores": os.cpu_count(), "provenance": provenance()}
        )
        print(depth, found[str(depth)]["summary"], out, flush=True)


def measure_depth(depth: int, steps: int) -> dict[str, Any]:
    """Zero-shot figures of one depth, and what its alignment cost."""
    settings = AlignmentConfig(steps=steps, warmup_steps=min(50, steps // 4))
    with tempfile.TemporaryDirectory() as folder, shown_progress() as on_progress:
        started = time.monotonic()
        record = run_alignment(Path(folder) / "a.safetensors", cache_root(), settings, depth, on_progress)
        whole_s = time.monotonic() - started
    figures = record["zero_shot_on_dev_groups"]
    by_name = {version: {metric["name"]: metric for metric in metrics} for version, metrics in figures.items()}
    return {
        "summary": {version: round(metrics["roc_auc"]["value"], 4) for version, metrics in by_name.items()},
        "metrics": by_name,
        "alignment_s_per_step": record["trained_s"] / steps,
        "whole_s": whole_s,
        "loss_last_50_steps": record["loss_last_50_steps"],
    }


if __name__ == "__main__":
    main()
