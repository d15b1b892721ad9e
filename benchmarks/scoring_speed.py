"""Scoring: packed un-padded batches against `generate` and against padded logits, clip by clip, as people write it.

The small model with eight language-model layers, 1 s clips, float32, both sides in one process and in turns. Ours is
the road of every study (listenwell.study.score): batches by duration, each computed on one thread, as many at once as
there are cores. The scores of both sides are compared too.

    python benchmarks/scoring_speed.py              writes benchmarks/results/scoring_speed.json, about a minute
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from both_sides import SHORT_CLIPS, in_turns, usual_scoring, write_clips
from usual_recipe import LAYERS, usual_parts

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.model.loading import load_model, quiet_transformers
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import ModelConfig
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
    asked = parser.parse_args()
    quiet_transformers()
    with tempfile.TemporaryDirectory() as folder:
        built = asked.model or build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False)
        report = measure(built, write_clips(Path(folder), 1.0, N_OURS))
    write_json(asked.out, report)
    print({key: value for key, value in report.items() if key != "provenance"}, asked.out)


def measure(folder: Path, clips: Sequence[Clip]) -> dict[str, Any]:
    """Everything the JSON holds."""
    ours = our_scoring(folder, clips)
    usual, processor = usual_parts(folder)
    waveforms = [load_waveform(clip) for clip in clips[:N_USUAL]]
    generate, padded = (usual_scoring(usual, processor, waveforms, generate=on) for on in (True, False))
    taken = in_turns(
        {"ours": ours, "generate": generate, "padded": padded}, dict.fromkeys(("ours", "generate", "padded"), 1), ROUNDS
    )
    per_clip = {side: seconds / (N_OURS if side == "ours" else N_USUAL) for side, seconds in taken.items()}
    prompt = load_model(ModelConfig(name=str(folder), device="cpu")).prompt(PromptConfig())
    reference = [float(logits[prompt.speech_id] - logits[prompt.nonspeech_id]) for logits in padded()]
    return {
        "claim": "scoring 30 times as fast as generate and 15 times as padded logits, clip by clip",
        "layers": LAYERS, "clip_s": 1.0, "n_clips": N_OURS, "dtype": "float32", "seed": 42,
        "seconds_per_clip": per_clip,
        "ratio": {side: per_clip[side] / per_clip["ours"] for side in ("generate", "padded")},
        "largest_difference_of_scores": float(np.max(np.abs(ours()[: len(reference)] - reference))),
        "provenance": provenance(),
    }  # fmt: skip


def our_scoring(folder: Path, clips: Sequence[Clip]) -> Callable[[], Any]:
    config = Config()
    model = load_model(ModelConfig(name=str(folder), device="cpu"))
    detector = LanguageModelDetector(model, PromptConfig(), SHORT_CLIPS, {"m": None}, config.scoring.batch_seconds)
    return lambda: score_clips([detector], clips, BackgroundBank([]), ["clean"], config).tables["m"].score


if __name__ == "__main__":
    main()
