"""Which changes leave a study's scores as they are to the bit, and by how much the others move them.

A short starter study on the real small model and the real recordings (two epochs of 96 clips, two conditions) runs
once as it is and again under every variant, each in a process and a run folder of its own, so nothing is reused. All
score tables are compared, row by row.

    python benchmarks/determinism.py               writes benchmarks/results/determinism.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.evaluate.scores import read_scores
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

ROOT = Path(__file__).parents[1]
SHORT = (
    "train.epochs=2",
    "train.clips_per_epoch=96",
    "evaluation.conditions=[clean, snr_5]",
    "evaluation.baselines=[silero]",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """What is changed: settings, or what the process finds around it."""

    settings: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


VARIANTS = {
    "clips prepared by 2 processes, scored by one worker, saved after every batch, another hash seed": Variant(
        ["train.workers=2", "scoring.workers=1", "train.checkpoint_steps=1"], {"PYTHONHASHSEED": "7"}
    ),
    "one thread": Variant(environment={"OMP_NUM_THREADS": "1"}),
    "smaller batches in scoring": Variant(["scoring.batch_seconds=8"]),
}


def main() -> None:
    """Run, compare, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "determinism.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reference = run_study(Path(folder) / "reference", Variant())
        found = {}
        for number, (name, variant) in enumerate(VARIANTS.items()):
            found[name] = compare(reference, run_study(Path(folder) / str(number), variant))
            print(f"{name}: {found[name]}", flush=True)
    write_json(asked.out, {
        "claim": "the same study gives the same scores to the bit, whatever prepares and scores its clips",
        "settings": SHORT, "threads_of_the_reference": len(os.sched_getaffinity(0)), "variants": found,
        "provenance": provenance(),
    })  # fmt: skip


def run_study(out: Path, variant: Variant) -> Path:
    """Run the short study into a folder of its own and return it."""
    command = [sys.executable, "-m", "listenwell", "study", str(ROOT / "configs" / "starter.yaml")]
    subprocess.run(
        [*command, f"output={out}", *SHORT, *variant.settings], check=True, env=os.environ | variant.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return out


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Whether all score tables are the same bytes, and the largest difference of a score of the fine-tuned model."""
    tables = sorted(path.name for path in (one / "scores").glob("*.csv"))
    same = [(one / "scores" / name).read_bytes() == (other / "scores" / name).read_bytes() for name in tables]
    differences = [
        np.abs(read_scores(one / "scores" / name).score - read_scores(other / "scores" / name).score).max()
        for name in tables
        if name.startswith("fine-tuned-")
    ]
    return {"n_tables": len(tables), "n_same_bytes": sum(same), "largest_difference": float(max(differences))}


if __name__ == "__main__":
    main()
