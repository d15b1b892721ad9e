"""Which recipe holds on speech of a package that training never heard: folds by package, within the study pool.

Dev groups come from the packages that training comes from, and clean dev clips are told apart without an error, so
dev cannot show which recipe holds elsewhere. Here every fold holds out all speech of one kind of package (telephone
prompts, KTuberling, Tux Paint) with a third of the other sound sources; the rest trains, with a fifth of its groups to
choose the epoch and the threshold. No sealed and no out-of-corpus recording is touched. Clips whose split is `train`
always train, unless their package is the one that is held out.

    python benchmarks/foreign_packages.py RECIPES.yaml --name NAME       trains the recipe on every fold, as one stack

RECIPES.yaml: recipe name -> settings changed from configs/starter.yaml. Adds the recipe's figures to the JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from listenwell.atomic_files import write_json
from listenwell.config import change_config, load_config
from listenwell.data.clip import Clip
from listenwell.data.splits import order_groups, split_by_group
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.evaluate.scores import ScoreTable
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.run_folder import RunFolder, provenance
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.fitting import FinishedFit, FitRequest, fit_all
from listenwell.study.parts import DEV, TRAIN, Parts, divide
from listenwell.study.prepare import prepare
from listenwell.study.score import score_clips

ROOT = Path(__file__).parents[1]
HELD_OUT = "held_out"
FOLDS = {"telephone": ("asterisk-",), "ktuberling": ("ktuberling-",), "tuxpaint": ("tuxpaint-",)}
CONDITIONS = ("clean", "snr_-5", "snr_5", "200ms", "100ms")


def main() -> None:
    """Train, score and add to the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "foreign_packages")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "foreign_packages.json")
    asked = parser.parse_args()
    quiet_transformers()
    changes = yaml.safe_load(asked.recipes.read_text(encoding="utf-8"))[asked.name]
    found = measure(asked.name, changes, asked.run)
    known = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else {"recipes": {}}
    known["claim"] = "how recipes hold on speech of packages that training never heard; folds of the study pool"
    known["recipes"][asked.name] = found
    write_json(asked.out, known)
    for condition, cells in found["mean"].items():
        print(condition, {name: round(value, 4) for name, value in cells.items()})


def measure(name: str, changes: dict[str, Any], run: Path) -> dict[str, Any]:
    """One recipe on every fold."""
    config = change_config(load_config(ROOT / "configs" / "starter.yaml", [f"output={run}"]), changes, name)
    clips, backgrounds = prepare(config)
    parts = divide(clips, backgrounds, config.data)
    model = load_model(config.model)
    folds = {fold: fold_parts(parts, FOLDS[fold], number) for number, fold in enumerate(FOLDS)}
    requests = [FitRequest(f"{name}-{fold}", config, own, config) for fold, own in folds.items()]
    fits = fit_all(requests, model, RunFolder(run), lambda p: print(p.name, p.step, p.n_steps, end="\r"))
    by_fold = {}
    for (fold, own), fit in zip(folds.items(), fits, strict=True):
        if not isinstance(fit, FinishedFit):
            raise SystemExit(f"{fold}: {fit.reason}")
        detector = LanguageModelDetector(
            model, config.prompt, config.short_clips, {"it": fit.adapter}, config.scoring.batch_seconds
        )
        tables = {
            part: score_clips([detector], own.clips[part], own.banks[part], CONDITIONS, config).tables["it"]
            for part in (DEV, HELD_OUT)
        }
        by_fold[fold] = judge(tables[HELD_OUT], choose_threshold(tables[DEV]).value)
        by_fold[fold]["best_epoch"] = fit.record["best_epoch"]
    conditions = [*CONDITIONS, "all"]
    mean = {
        condition: {
            measure: float(np.mean([by_fold[fold][condition][measure] for fold in by_fold]))
            for measure in by_fold["tuxpaint"][condition]
        }
        for condition in conditions
    }
    return {"changes": changes, "seed": config.seed, "mean": mean, "folds": by_fold, "provenance": provenance()}


def fold_parts(parts: Parts, packages: tuple[str, ...], number: int) -> Parts:
    """The fold that holds out the speech of these packages, and every third source of other sounds."""
    pool = [clip for part in (TRAIN, DEV) for clip in parts.clips[part]]
    speakers = {clip.group for clip in pool if clip.label == "SPEECH"}
    foreign = {clip.group for clip in pool if clip.label == "SPEECH" and clip.recording.startswith(packages)}
    sources = order_groups({clip.group for clip in pool} - speakers, seed=1)
    out = foreign | set(sources[number :: len(FOLDS)])
    always = [clip for clip in pool if clip.split == TRAIN and clip.group not in out]
    rest = [clip for clip in pool if clip.split != TRAIN and clip.group not in out]
    divided = split_by_group(rest, {TRAIN: 0.8, DEV: 0.2}, seed=1)
    clips: dict[str, list[Clip]] = {
        TRAIN: [*divided[TRAIN], *always],
        DEV: divided[DEV],
        HELD_OUT: [replace(clip, split=HELD_OUT) for clip in pool if clip.group in out],
    }
    return Parts(clips, {TRAIN: parts.banks[TRAIN], DEV: parts.banks[DEV], HELD_OUT: parts.banks[DEV]})


def judge(table: ScoreTable, threshold: float) -> dict[str, Any]:
    """Balanced accuracy at the fold's threshold and at 0, recall and AUC, by condition and over all of them."""
    cells = {}
    for condition in [*CONDITIONS, "all"]:
        own = table if condition == "all" else table.select(table.condition == condition)
        says = decide(own.score, threshold)
        cells[condition] = {
            "calibrated": balanced_accuracy(says, own.is_speech),
            "at_0": balanced_accuracy(decide(own.score, 0.0), own.is_speech),
            "recall": float(says[own.is_speech].mean()),
            "specificity": float((~says[~own.is_speech]).mean()),
            "auc": roc_auc(own.score, own.is_speech),
        }
    return {**cells, "threshold": threshold}


if __name__ == "__main__":
    main()
