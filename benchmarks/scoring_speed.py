"""Scoring: packed un-padded batches against `generate` and against padded logits, clip by clip, as people write it.

The small model with eight language-model layers, 1 s clips, both sides in one process and in turns, in float32 and,
where the processor multiplies bfloat16, in that too: either side in either. Ours is the road of every study
(listenwell.judge.score): batches by duration, each computed on one thread, as many at once as there are cores. The
scores of both sides are compared too, and what bfloat16 does to them.

    python benchmarks/scoring_speed.py              writes benchmarks/results/scoring_speed.json, about two minutes
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from both_sides import (
    SHORT_CLIPS,
    Clock,
    in_turns,
    precisions,
    run,
    usual_scoring,
    write_clips,
)
from speed import LAYERS, usual_parts

from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import score_clips
from listenwell.model.loading import load_model
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import ModelConfig, ScoringConfig

N_OURS, N_USUAL, ROUNDS = 64, 4, 3


def measure(folder: Path, scratch: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds."""
    dtypes, clips = precisions(), write_clips(scratch, 1.0, N_OURS)
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
        "clip_s": 1.0, "n_clips": N_OURS, "seed": 42,
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
    }  # fmt: skip


def our_scoring(folder: Path, clips: Sequence[Clip], dtype: str, workers: int | None) -> Callable[[], Any]:
    config = Config(scoring=ScoringConfig(workers=workers))
    model = load_model(ModelConfig(name=str(folder), device="cpu", dtype=dtype))
    detector = LanguageModelDetector(model, SHORT_CLIPS, {"m": (PromptConfig(), None)}, config.scoring.batch_seconds)
    return lambda: score_clips([detector], clips, BackgroundBank([]), ["clean"], config)["m"].score


if __name__ == "__main__":
    run(__file__, __doc__, LAYERS, measure)
