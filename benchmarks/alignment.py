"""Does the shipped alignment make fine-tuning converge in fewer steps than an untrained projector?

Both bases are fine-tuned with the same settings, clips, plans and seeds; after every few steps the dev groups of the
study pool are scored. Sealed and out-of-corpus recordings are not touched. Writes benchmarks/results/alignment.json.

    python benchmarks/alignment.py [--seeds 3] [--epochs 8]
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.config import load_config
from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance
from listenwell.study.dev_sets import hear_dev_set
from listenwell.study.parts import DEV, TRAIN, divide
from listenwell.study.prepare import prepare
from listenwell.train.fit import train
from listenwell.train.fit_underway import FitSpec

STEPS_PER_EPOCH = 8
BATCH = 16
GOAL = 0.95


def main() -> None:
    """Run both sides and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12, help=f"of {STEPS_PER_EPOCH} steps each")
    arguments = parser.parse_args()
    unaligned = cache_root() / "models" / "small-unaligned"
    if not unaligned.exists():
        build_small_model(unaligned, cache_root(), aligned=False)
    sides = {"aligned": "small", "unaligned": str(unaligned)}
    curves = {
        side: [curve(name, seed, arguments.epochs) for seed in range(arguments.seeds)] for side, name in sides.items()
    }
    report = {
        "claim": "the alignment makes fine-tuning converge in fewer steps",
        "steps_per_point": STEPS_PER_EPOCH,
        "batch": BATCH,
        "seeds": arguments.seeds,
        "curves": curves,
        f"steps_to_dev_auc_{GOAL}": {
            side: [steps_to_goal(c["dev_auc"]) for c in found] for side, found in curves.items()
        },
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "provenance": provenance(),
    }
    out = Path(__file__).parent / "results" / "alignment.json"
    write_json(out, report)
    print(json.dumps(report[f"steps_to_dev_auc_{GOAL}"]), out)


def curve(model_name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Dev AUC, loss and balanced accuracy at 0 after every STEPS_PER_EPOCH steps of one fit."""
    config = load_config(
        Path("configs/starter.yaml"),
        [
            f"seed={seed}",
            f"train.epochs={epochs}",
            f"train.clips_per_epoch={STEPS_PER_EPOCH * BATCH}",
            f"train.batch={BATCH}",
        ],
    )
    parts = divide(*prepare(config), config.data)
    model = load_model(ModelConfig(name=model_name, dtype=config.model.dtype))
    spec = FitSpec("fit", config.lora, config.train, config.augment, seed, parts.clips[TRAIN], parts.banks[TRAIN])
    dev = hear_dev_set(config, model, parts.clips[DEV], parts.banks[DEV])
    (result,) = train(model, model.prompt(config.prompt), config.short_clips, [spec], [dev])
    keys = ("dev_auc", "dev_loss", "dev_balanced_accuracy_at_0")
    groups = {clip.group for clip in parts.clips[DEV]}
    return {key: [epoch[key] for epoch in result.history] for key in keys} | {
        "n_dev_clips": len(parts.clips[DEV]),
        "n_dev_groups": len(groups),
    }


def steps_to_goal(aucs: list[float]) -> int | None:
    """Steps until the dev AUC first reaches GOAL; None when it never did."""
    reached = np.flatnonzero(np.array(aucs) >= GOAL)
    return int(reached[0] + 1) * STEPS_PER_EPOCH if reached.size else None


if __name__ == "__main__":
    main()
