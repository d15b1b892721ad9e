"""Scoring: packed un-padded batches against `generate` and against padded logits, clip by clip, as people write it.

The small model with eight language-model layers, 1 s clips, both sides in one process and in turns, in float32 and,
where the processor multiplies bfloat16, in that too: either side in either. Ours is the road of every study
(listenwell.study.score): batches by duration, each computed on one thread, as many at once as there are cores. The
scores of both sides are compared too, and what bfloat16 does to them.

    python benchmarks/scoring_speed.py              writes benchmarks/results/scoring_speed.json, about two minutes
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from both_sides import (
    SHORT_CLIPS,
    Clock,
    add_clock,
    in_turns,
    multiplies_bfloat16,
    take_clock,
    usual_scoring,
    write_clips,
)
from usual_recipe import LAYERS, usual_parts

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import ModelConfig, ScoringConfig
from listenwell.model.small import build_small_model
from listenwell.run_folder import provenance
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.score import score_clips

N_OURS, N_USUAL, ROUNDS = 64, 4, 3


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model, built for the run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scoring_speed.json")
    add_clock(parser)
    asked = parser.parse_args()
    quiet_transformers()
    with tempfile.TemporaryDirectory() as folder:
        built = asked.model or build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False)
        report = measure(built, write_clips(Path(folder), 1.0, N_OURS), *take_clock(asked.one_thread))
    write_json(asked.out, report)
    print({key: value for key, value in report.items() if key != "provenance"}, asked.out)


def measure(folder: Path, clips: Sequence[Clip], clock: Clock, counted: str) -> dict[str, Any]:
    """Everything the JSON holds."""
    dtypes = ["float32", "bfloat16"] if multiplies_bfloat16() else ["float32"]
    waveforms = [load_waveform(clip) for clip in clips[:N_USUAL]]
    sides: dict[str, Callable[[], Any]] = {}
    for dtype in dtypes:
        sides[f"ours {dtype}"] = our_scoring(folder, clips, dtype, workers=1 if torch.get_num_threads() == 1 else None)
        usual = usual_parts(folder, dtype)
        sides[f"generate {dtype}"] = usual_scoring(*usual, waveforms, generate=True)
        sides[f"padded {dtype}"] = usual_scoring(*usual, waveforms, generate=False)
    taken = in_turns(sides, dict.fromkeys(sides, 1), ROUNDS, clock)
    per_clip = {side: seconds / (N_OURS if side.startswith("ours") else N_USUAL) for side, seconds in taken.items()}
    fastest = min(dtypes, key=lambda dtype: per_clip[f"ours {dtype}"])
    prompt = load_model(ModelConfig(name=str(folder), device="cpu")).prompt(PromptConfig())
    reference = [float(logits[prompt.speech_id] - logits[prompt.nonspeech_id]) for logits in sides["padded float32"]()]
    scores = {dtype: sides[f"ours {dtype}"]() for dtype in dtypes}
    usual_sides = ("generate", "padded")
    return {
        "claim": "scoring 30 times as fast as generate and 15 times as padded logits, clip by clip",
        "layers": LAYERS, "clip_s": 1.0, "n_clips": N_OURS, "seed": 42,
        "clock": counted,
        "seconds_per_clip": per_clip,
        "ratio_same_dtype": {
            dtype: {side: per_clip[f"{side} {dtype}"] / per_clip[f"ours {dtype}"] for side in usual_sides}
            for dtype in dtypes
        },
        "fastest_dtype_of_ours": fastest,
        "ratio_fastest_dtype_against_usual_float32":
            {side: per_clip[f"{side} float32"] / per_clip[f"ours {fastest}"] for side in usual_sides},
        "largest_difference_of_scores_from_padded_float32":
            {dtype: float(np.max(np.abs(scores[dtype][:N_USUAL] - reference))) for dtype in dtypes},
        "scores": {
            dtype: {"standard_deviation": float(np.std(scores[dtype])),
                    "largest_difference_from_float32": float(np.max(np.abs(scores[dtype] - scores["float32"])))}
            for dtype in dtypes
        },
        "provenance": provenance(),
    }  # fmt: skip


def our_scoring(folder: Path, clips: Sequence[Clip], dtype: str, workers: int | None) -> Callable[[], Any]:
    config = Config(scoring=ScoringConfig(workers=workers))
    model = load_model(ModelConfig(name=str(folder), device="cpu", dtype=dtype))
    detector = LanguageModelDetector(model, PromptConfig(), SHORT_CLIPS, {"m": None}, config.scoring.batch_seconds)
    return lambda: score_clips([detector], clips, BackgroundBank([]), ["clean"], config)["m"].score


if __name__ == "__main__":
    main()
