"""Which augmentation pays: arms of the starter study with three seeds each, judged on dev, the tests reported.

    listenwell study benchmarks/ablation.yaml && python benchmarks/ablation.py runs/ablation

Per arm, part and condition: the mean over seeds of balanced accuracy with the threshold that the arm's own dev scores
chose (on dev: that other dev groups chose), its interval over seeds (mean +- t SD / sqrt(n)), and the mean AUC. An
interval over seeds says nothing about other speakers. Writes benchmarks/results/ablation.json and prints tables.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from listenwell.atomic_files import write_json
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.cross_fitting import cross_fitted_decisions
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.run_folder import RunFolder, provenance, read_kept_results

DEV, FINAL, FINE_TUNED = "dev", "final", "fine-tuned"


def main() -> None:
    """Read the run's score tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ablation.json")
    asked = parser.parse_args()
    run = RunFolder(asked.run)
    results = read_kept_results(run)
    parts = [DEV, *(each["name"] for each in results["test_sets"])]
    arms = find_arms(run.root / "scores")
    conditions = results["conditions"]
    table = {part: {arm: measure(run, part, methods, conditions) for arm, methods in arms.items()} for part in parts}
    write_json(asked.out, {
        "claim": "which augmentation pays, three seeds an arm; chosen on dev, tests reported",
        "config": results["config"] | {"output": str(asked.run)},
        "n_dev_clips": len(set(read_scores(run.scores(f"{FINE_TUNED}-{DEV}")).clip_id.tolist())),
        "parts": table,
        "provenance": provenance(),
    })  # fmt: skip
    for part in parts:
        print(f"\n{part}: balanced accuracy, calibrated on dev\n\n| arm | {' | '.join([*conditions, 'mean'])} |")
        print("|---" * (len(conditions) + 2) + "|")
        for arm, cells in table[part].items():
            shown = [
                f"{c['mean']:.3f} ± {c['half_width']:.3f}" for c in (cells[name] for name in [*conditions, "mean"])
            ]
            print(f"| {arm} | {' | '.join(shown)} |")


def find_arms(scores: Path) -> dict[str, list[str]]:
    """Return each arm with the methods of its seeds; the delivered seed of the config itself is called fine-tuned."""
    methods = sorted(path.name.removesuffix(f"-{DEV}.csv") for path in scores.glob(f"*-{DEV}.csv"))
    arms: dict[str, list[str]] = {}
    for method in methods:
        if "-seed" in method or method == FINE_TUNED:
            arms.setdefault(FINAL if method == FINE_TUNED else method.rsplit("-seed", 1)[0], []).append(method)
    return arms


def measure(run: RunFolder, part: str, methods: list[str], conditions: list[str]) -> dict[str, Any]:
    """Balanced accuracy and AUC over the seeds of one arm, by condition, and their mean over the conditions."""
    accuracies, aucs = [], []
    for method in methods:
        dev = read_scores(run.scores(f"{method}-{DEV}"))
        table = dev if part == DEV else read_scores(run.scores(f"{method}-{part}"))
        says = cross_fitted_decisions(dev) if part == DEV else decide(table.score, choose_threshold(dev).value)
        rows = [table.condition == condition for condition in conditions]
        accuracies.append([balanced_accuracy(says[row], table.is_speech[row]) for row in rows])
        aucs.append([auc_of(table, row) for row in rows])
    by_condition = np.array(accuracies)
    cells = np.column_stack([by_condition, by_condition.mean(axis=1)])
    return {
        name: {**over_seeds(cells[:, i]), "auc": float(np.mean(np.array(aucs)[:, i])) if i < len(conditions) else None}
        for i, name in enumerate([*conditions, "mean"])
    }


def auc_of(table: ScoreTable, row: np.ndarray) -> float:
    return roc_auc(table.score[row], table.is_speech[row])


def over_seeds(values: np.ndarray) -> dict[str, Any]:
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": float(np.mean(values)), "half_width": half, "n_seeds": len(values)}


if __name__ == "__main__":
    main()
