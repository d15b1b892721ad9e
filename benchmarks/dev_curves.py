"""What each recipe reaches on dev: the starter study's own division, losses and AUC epoch by epoch. No test is opened.

    python benchmarks/dev_curves.py RECIPES.yaml ...     a file is a stack; writes benchmarks/results/dev_curves.json

RECIPES.yaml: recipe name -> settings changed from configs/starter.yaml. Dev is heard under one fixed plan a clip, with
noise, crops and masks, which is why it is not solved without an error.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from listenwell.atomic_files import write_json
from listenwell.config import change_config, load_config
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.run_folder import RunFolder, provenance
from listenwell.study.fit_request import FitRequest
from listenwell.study.fitting import FinishedFit, fit_all
from listenwell.study.parts import DEV, divide
from listenwell.study.prepare import prepare

ROOT = Path(__file__).parents[1]
SHOWN = ("epoch", "train_loss", "dev_loss", "dev_balanced_accuracy_at_0", "dev_auc")


def main() -> None:
    """Train what is not trained yet and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "dev_curves")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "dev_curves.json")
    asked = parser.parse_args()
    quiet_transformers()
    starter = load_config(ROOT / "configs" / "starter.yaml", [f"output={asked.run}"])
    clips, backgrounds = prepare(starter)
    parts = divide(clips, backgrounds, starter.data)
    model = load_model(starter.model)
    curves: dict[str, Any] = {}
    for path in asked.recipes:
        recipes = yaml.safe_load(path.read_text(encoding="utf-8"))
        requests = [
            FitRequest(name, change_config(starter, changes, name), parts, starter) for name, changes in recipes.items()
        ]
        fits = fit_all(requests, model, RunFolder(asked.run), lambda p: print(p.name, p.step, p.n_steps, end="\r"))
        for (name, changes), fit in zip(recipes.items(), fits, strict=True):
            if not isinstance(fit, FinishedFit):
                raise SystemExit(f"{name}: {fit.reason}")
            history = [{key: record[key] for key in SHOWN} for record in fit.record["history"]]
            curves[name] = {"changes": changes, "best_epoch": fit.record["best_epoch"], "history": history}
            print(f"{name:<14} best dev loss {min(r['dev_loss'] for r in history):.3f}")
    report = {
        "claim": "what each recipe reaches on dev; no test set is opened",
        "n_dev_clips": len(parts.clips[DEV]), "n_dev_groups": len({clip.group for clip in parts.clips[DEV]}),
        "curves": curves, "provenance": provenance(),
    }  # fmt: skip
    write_json(asked.out, report)


if __name__ == "__main__":
    main()
