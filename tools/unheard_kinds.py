"""Measure the starter recipe on kinds of sounds and corpora of speech that neither the adapter nor its base has heard.

    python tools/unheard_kinds.py runs/unheard_kinds    # two cores: about two hours; goes on where it was stopped

The study pool is dealt into three folds by category (`leave_one_out.by: category`). The alignment of the shipped base
trained on most of the pool, so folds over the pool would flatter it: here every fold aligns a base of its own on its
own training clips, trains the recipe with three seeds, chooses forms and thresholds on its own dev, and scores what it
held out with all methods, stage by stage as a study does. Sealed and out-of-corpus recordings stay closed. The folds
are judged together as one test set; OUT/results.json holds its rows and comparisons, every fold, every seed and kind.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from train_alignment import AlignmentConfig, align_clips, write_alignment

from listenwell.config import Config, change_config, load_config
from listenwell.data.splits import Fold, kind_of
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.methods import (
    CALIBRATED,
    FINE_TUNED,
    ZERO_SHOT,
    JudgedMethod,
    compare_methods,
    judge,
    versions,
)
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable, join_tables
from listenwell.fits.fitting import Trained, Trainer
from listenwell.judge.detectors import AT_DEFAULT
from listenwell.judge.score import Scored, score_study
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.small.assembly import DEFAULT_LAYERS, build_small_model, fetch_parts
from listenwell.progress import OnProgress, shown_progress
from listenwell.splits.clips import prepare
from listenwell.splits.divide import TRAIN, Splits, divide
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import RunFolder, provenance
from listenwell.study.leave_one_out import CATEGORY, HELD_OUT, fold_splits, folds_of
from listenwell.study.run import train_fits
from listenwell.train.loader import draw_some

TEST_SET = "unheard_kinds"
SETTINGS = {
    "seeds": [42, 123, 456],
    "data.on_leak": "report",
    "leave_one_out.by": CATEGORY,
    "leave_one_out.folds": 3,
    "leave_one_out.dev_speakers": 6,
    "evaluation.conditions": ["clean", "snr_-5", "snr_5", "200ms", "100ms"],
}
N_HELD_OUT = 600
"""Clips that a fold tests, half speech, groups in turn."""


@dataclass(frozen=True, slots=True)
class TestedFold:
    """A fold, its fits and the scores of all methods."""

    fold: Fold
    trained: Trained
    scored: Scored

    def shifted(self, method: str) -> ScoreTable:
        """The held-out scores of a method less the threshold that the fold's dev chose."""
        table = self.scored.tables[HELD_OUT][method]
        return replace(table, score=table.score - self.scored.thresholds[method].value)

    def at_default(self, method: str) -> ScoreTable:
        """The held-out scores that the default threshold of a method decides."""
        tables = self.scored.tables[HELD_OUT]
        return tables.get(method + AT_DEFAULT, tables[method])

    def method_of(self, seed: int) -> str:
        """The method that the fit with this seed is."""
        return next(arm.method for arm in self.trained.arms if arm.arm.seed == seed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Align, train and score every fold, judge all together, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="Folder of the folds and of results.json.")
    parser.add_argument("changes", nargs="*", help="Changes of configs/starter.yaml, such as train.epochs=5.")
    parser.add_argument("--bases", type=Path, help="Folder of the folds' bases, to share them; OUT/bases without it.")
    parser.add_argument("--folds", type=int, nargs="*", help="Only these folds (1, 2, 3), to look at a recipe.")
    asked = parser.parse_args(arguments)
    quiet_transformers()
    changes = [*asked.changes, f"output={asked.out}"]
    config = change_config(load_config(Path("configs/starter.yaml"), changes), SETTINGS, "tools/unheard_kinds.py")
    with shown_progress() as on_progress:
        splits = divide(*prepare(config, on_progress), config.data)
        folds = folds_of(config, splits, CATEGORY)
        chosen = [folds[number - 1] for number in asked.folds] if asked.folds else folds
        bases = asked.bases or asked.out / "bases"
        tested = [test_fold(fold, config, splits, bases, on_progress) for fold in chosen]
    results = describe(config, tested)
    write_json(asked.out / "results.json", results)
    for row in results["rows"]:
        found = {metric["name"]: f"{metric['value']:.3f}" for metric in row["metrics"]}
        print(row["method"], row["threshold"], row["condition"], found)
    print(results["seeds"])


def test_fold(fold: Fold, config: Config, splits: Splits, bases: Path, on_progress: OnProgress) -> TestedFold:
    """Align the fold's base if it is not there, then the stages of a study over the fold's splits."""
    drawn = replace(fold, held_out=draw_some(fold.held_out, N_HELD_OUT, config.seed))
    parts = fold_splits(drawn, splits)
    base = bases / fold.name
    if not base.is_dir():
        settings, bank = AlignmentConfig(), parts.banks[TRAIN]
        alignment, _ = align_clips(fetch_parts(cache_root()), DEFAULT_LAYERS, fold.train, bank, settings, on_progress)
        write_alignment(base.with_suffix(".safetensors"), alignment)
        build_small_model(base, cache_root(), base.with_suffix(".safetensors"))
    changed = {"model.name": str(base.resolve()), "output": str(config.output / fold.name)}
    of_fold = change_config(config, changed, fold.name)
    run = RunFolder(of_fold.output, of_fold.ledger)
    trained = train_fits(of_fold, parts, Trainer(load_model(of_fold.model), run, on_progress))
    return TestedFold(drawn, trained, score_study(of_fold, parts, trained, run, on_progress))


def describe(config: Config, tested: Sequence[TestedFold]) -> dict[str, Any]:
    """The folds as one test set: rows and comparisons; the folds themselves; what seeds and kinds make of it."""
    defaults = tested[0].scored.defaults
    methods = [
        JudgedMethod(
            name,
            join_tables([fold.shifted(name) for fold in tested]),
            defaults[name],
            None,
            join_tables([fold.at_default(name) for fold in tested]),
        )
        for name in sorted(defaults, key=lambda name: name != FINE_TUNED)
    ]
    primary = (ZERO_SHOT, "silero")
    comparisons = compare_methods(
        {TEST_SET: methods},
        lambda each: each.opponent in primary and each.opponent_threshold == CALIBRATED,
        config.seed,
    )
    return {
        "config": config.model_dump(mode="json"),
        "rows": [asdict(row) for method in methods for row in judge(method, TEST_SET, config.seed)],
        "comparisons": [asdict(each) for each in comparisons],
        "folds": [describe_fold(fold) for fold in tested],
        "seeds": {
            seed: by_condition(join_tables([fold.shifted(fold.method_of(seed)) for fold in tested]))
            for seed in config.seeds
        },
        "kinds": rejected_by_kind(tested),
        "provenance": provenance(),
    }


def describe_fold(fold: TestedFold) -> dict[str, Any]:
    """What a fold held out, its thresholds and what they reach beside those that its own test would have chosen."""
    clips, table = fold.fold.held_out, fold.scored.tables[HELD_OUT][FINE_TUNED]
    best = choose_threshold(table).value
    return {
        "name": fold.fold.name,
        "kinds": sorted({kind_of(clip) for clip in clips if clip.label == "NONSPEECH"}),
        "corpora": sorted({clip.corpus for clip in clips if clip.label == "SPEECH"}),
        "n_training_clips": len(fold.fold.train),
        "n_clips": len(clips),
        "n_groups": len({clip.group for clip in clips}),
        "n_speakers": len({clip.group for clip in clips if clip.label == "SPEECH"}),
        "threshold": fold.scored.thresholds[FINE_TUNED].value,
        "best_threshold": best,
        "reached": by_condition(fold.shifted(FINE_TUNED)),
        "at_best_threshold": by_condition(replace(table, score=table.score - best)),
    }


def by_condition(shifted: ScoreTable) -> dict[str, float]:
    """Balanced accuracy at threshold 0 by condition."""
    return {
        condition: balanced_accuracy(decide(of.score, 0.0), of.is_speech) for condition, of in versions(shifted).items()
    }


def rejected_by_kind(tested: Sequence[TestedFold]) -> dict[str, Mapping[str, Any]]:
    """Of every kind of sound how many clips were tested, and the share not called speech by condition."""
    kinds = {clip.clip_id: kind_of(clip) for fold in tested for clip in fold.fold.held_out}
    found: dict[str, Mapping[str, Any]] = {}
    table = join_tables([fold.shifted(FINE_TUNED) for fold in tested])
    sounds = table.select(~table.is_speech)
    of_kind = np.array([kinds[clip_id] for clip_id in sounds.clip_id.tolist()])
    for kind in sorted(set(of_kind.tolist())):
        of = sounds.select(of_kind == kind)
        shares = {condition: float(np.mean(each.score < 0)) for condition, each in versions(of).items()}
        found[kind] = {"n_clips": len(set(of.clip_id.tolist())), "rejected": shares}
    return found


if __name__ == "__main__":
    main()
