"""Which recipe holds on speech of a package that training never heard: folds by package, within the study pool.

Dev groups come from the packages that training comes from, and clean dev clips are told apart without an error, so
dev cannot show which recipe holds elsewhere. Here every fold holds out all speech of one kind of package (telephone
prompts, KTuberling, Tux Paint) with a third of the other sound sources; the rest trains, with a fifth of its groups to
choose the epoch and the threshold. No sealed and no out-of-corpus recording is touched. Clips whose split is `train`
always train, unless their package is the one that is held out.

    python benchmarks/foreign_packages.py                 trains every recipe on every fold, as stacks

benchmarks/recipes.yaml: recipe name -> settings changed from configs/starter.yaml. Writes
benchmarks/results/foreign_packages.json. Speech is also judged apart where it is isolated letters and digits.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from listenwell.atomic_files import write_json
from listenwell.config import Config, change_config, load_config
from listenwell.data.clip import Clip
from listenwell.data.splits import order_groups, split_by_group
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.evaluate.scores import ScoreTable
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.run_folder import RunFolder, provenance
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.fit_request import FitRequest
from listenwell.study.fitting import FinishedFit, fit_all
from listenwell.study.parts import DEV, TRAIN, Parts, divide
from listenwell.study.prepare import prepare
from listenwell.study.score import score_clips

ROOT = Path(__file__).parents[1]
HELD_OUT = "held_out"
FOLDS = {"telephone": ("asterisk-",), "ktuberling": ("ktuberling-",), "tuxpaint": ("tuxpaint-",)}
CONDITIONS = ("clean", "snr_-5", "snr_5", "200ms", "100ms")


def main() -> None:
    """Train, score and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", type=Path, default=ROOT / "benchmarks" / "recipes.yaml")
    parser.add_argument("--folds", nargs="+", choices=FOLDS, default=list(FOLDS))
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "foreign_packages")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "foreign_packages.json")
    asked = parser.parse_args()
    quiet_transformers()
    recipes = yaml.safe_load(asked.recipes.read_text(encoding="utf-8"))
    report = measure(recipes, asked.folds, asked.run)
    write_json(asked.out, report)
    for name, mean in report["mean"].items():
        for condition, cells in mean.items():
            print(name, condition, {measure: round(value, 4) for measure, value in cells.items()})


def measure(recipes: dict[str, dict[str, Any]], fold_names: list[str], run: Path) -> dict[str, Any]:
    """Everything the JSON holds."""
    starter = load_config(ROOT / "configs" / "starter.yaml", [f"output={run}"])
    clips, backgrounds = prepare(starter)
    parts = divide(clips, backgrounds, starter.data)
    model = load_model(starter.model)
    folds = {name: fold_parts(parts, FOLDS[name], list(FOLDS).index(name)) for name in fold_names}
    configs = {name: change_config(starter, changes, name) for name, changes in recipes.items()}
    pairs = [(recipe, fold) for fold in folds for recipe in configs]
    requests = [FitRequest(f"{r}-{f}", configs[r], folds[f], starter) for r, f in pairs]
    fits = fit_all(requests, model, RunFolder(run), lambda p: print(p.name, p.step, p.n_steps, end="\r"))
    found: dict[str, dict[str, Any]] = {recipe: {} for recipe in configs}
    for (recipe, fold), fit in zip(pairs, fits, strict=True):
        if not isinstance(fit, FinishedFit):
            raise SystemExit(f"{recipe}, {fold}: {fit.reason}")
        found[recipe][fold] = judge_fit(fit, folds[fold], configs[recipe], model)
    return {
        "claim": "how recipes hold on speech of packages that training never heard; folds of the study pool",
        "recipes": recipes, "seed": starter.seed, "folds": found,
        "mean": {recipe: average(list(by_fold.values())) for recipe, by_fold in found.items()},
        "provenance": provenance(),
    }  # fmt: skip


def judge_fit(fit: FinishedFit, parts: Parts, config: Config, model: AudioLanguageModel) -> dict[str, Any]:
    """What one fit says of its held-out clips, at the threshold that its own dev clips chose."""
    detector = LanguageModelDetector(
        model, config.prompt, config.short_clips, {"it": fit.adapter}, config.scoring.batch_seconds
    )
    tables = {
        part: score_clips([detector], parts.clips[part], parts.banks[part], CONDITIONS, config)["it"]
        for part in (DEV, HELD_OUT)
    }
    isolated = {clip.clip_id for clip in parts.clips[HELD_OUT] if "/letters/" in clip.recording}
    isolated |= {clip.clip_id for clip in parts.clips[HELD_OUT] if "/digits/" in clip.recording}
    held_out, threshold = tables[HELD_OUT], choose_threshold(tables[DEV]).value
    cells = judge(held_out, threshold)
    if isolated:
        kept = ~held_out.is_speech | np.isin(held_out.clip_id, sorted(isolated))
        cells |= {f"isolated, {name}": cell for name, cell in judge(held_out.select(kept), threshold).items()}
    return {"cells": cells, "threshold": threshold, "best_epoch": fit.record["best_epoch"]}


def average(by_fold: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean of every cell over the folds that have it."""
    names = dict.fromkeys(name for fold in by_fold for name in fold["cells"])
    having = {name: [fold["cells"][name] for fold in by_fold if name in fold["cells"]] for name in names}
    return {
        name: {measure: float(np.mean([cell[measure] for cell in cells])) for measure in cells[0]}
        for name, cells in having.items()
    }


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


def judge(table: ScoreTable, threshold: float) -> dict[str, dict[str, float]]:
    """Balanced accuracy at the threshold and at 0, recall, specificity and AUC, by condition and over all of them."""
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
    return cells


if __name__ == "__main__":
    main()
