"""What a whole study costs, beside its fits trained one by one and beside the usual recipe.

    python benchmarks/full_study.py runs/starter_full --wall-s 2400     writes benchmarks/results/full_study.json

Counts the optimiser steps of every fit of a finished run and the clips in its score tables, measures in turns what a
step costs in a stack of six, alone, and as people write it in float32 (benchmarks/both_sides.py), and a scored clip
likewise, and multiplies: what searches and folds score is not counted. The small model of the starter study in the
machine's fastest precision, LoRA on the language model, batches of 16 clips of 1 s.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from both_sides import (
    in_turns,
    make_spec,
    make_waveforms,
    multiplies_bfloat16,
    our_step_times,
    usual_scoring,
    usual_step,
    write_backgrounds,
    write_clips,
)
from scoring_speed import our_scoring
from stack import GRID
from usual_recipe import seconds_of, usual_parts

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.evaluate.scores import read_scores
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.settings import ModelConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance
from listenwell.train.fit_underway import FitSpec
from listenwell.vouched_files import read_vouched

BATCH, STEPS, ROUNDS, N_CLIPS, N_USUAL = 16, 5, 3, 64, 4
NOT_LANGUAGE_MODELS = ("silero", "webrtc")


def main() -> None:
    """Count, measure, multiply, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--wall-s", type=float, required=True, help="how long the study took")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "full_study.json")
    asked = parser.parse_args()
    quiet_transformers()
    steps = [read_vouched(path)["n_steps"] for path in sorted((asked.run / "fits").glob("*/history.json"))]
    n_scored = sum(count_rows(path) for path in sorted((asked.run / "scores").glob("*.csv")))
    with tempfile.TemporaryDirectory() as folder:
        step_s, clip_s = measure(Path(folder))
    training_s = {side: sum(steps) * seconds for side, seconds in step_s.items()}
    scoring_s = {side: n_scored * seconds for side, seconds in clip_s.items()}
    usual_s = training_s["usual"] + scoring_s["padded logits"]
    report = {
        "claim": "a study with search, ladder, seeds and folds in 45 minutes",
        "n_fits": len(steps), "n_steps": sum(steps), "n_scored": n_scored, "wall_s": asked.wall_s,
        "step_s": step_s, "scored_clip_s": clip_s, "training_s": training_s, "scoring_s": scoring_s,
        "usual_recipe_s": usual_s, "ratio_usual_recipe": usual_s / asked.wall_s,
        "ratio_one_by_one": training_s["alone"] / training_s["stacked"],
        "provenance": provenance(),
    }  # fmt: skip
    write_json(asked.out, report)
    print({name: value for name, value in report.items() if name != "provenance"}, asked.out)


def count_rows(table: Path) -> int:
    """Rows of a score table of the language model, 0 for another method's."""
    if table.name.startswith(NOT_LANGUAGE_MODELS):
        return 0
    return len(read_scores(table))


def measure(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of one fit's optimiser step and of one scored clip, the least of the rounds, by side."""
    built = build_small_model(folder / "model", cache_root(), aligned=False)
    dtype = "bfloat16" if multiplies_bfloat16() else "float32"
    model = load_model(ModelConfig(name=str(built), device="cpu", dtype=dtype))
    clips, bank = write_clips(folder, 1.0, BATCH * (STEPS + 1)), write_backgrounds(folder)
    specs = [in_batches(make_spec(f"fit {i}", clips, bank, **point)) for i, point in enumerate(GRID)]
    usual = usual_step(*usual_parts(built), make_waveforms(1.0, BATCH))
    usual()
    taken: dict[str, list[float]] = {"stacked": [], "alone": [], "usual": []}
    for _ in range(ROUNDS):
        taken["stacked"].append(float(np.median(our_step_times(model, specs)[0])) / len(specs))
        taken["alone"].append(float(np.median([np.median(our_step_times(model, [spec])[0]) for spec in specs])))
        taken["usual"].append(seconds_of(usual, time.perf_counter))
    waveforms = make_waveforms(1.0, N_USUAL)
    scoring = {
        "ours": our_scoring(built, clips[:N_CLIPS], dtype, workers=None),
        "padded logits": usual_scoring(*usual_parts(built), waveforms, generate=False),
    }
    scored = in_turns(scoring, dict.fromkeys(scoring, 1), ROUNDS)
    clip_s = {"ours": scored["ours"] / N_CLIPS, "padded logits": scored["padded logits"] / N_USUAL}
    return {side: min(seconds) for side, seconds in taken.items()}, clip_s


def in_batches(spec: FitSpec) -> FitSpec:
    return replace(spec, train=spec.train.model_copy(update={"batch": BATCH}))


if __name__ == "__main__":
    main()
