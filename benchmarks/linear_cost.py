"""What a clip costs by its length: listenwell's scoring and training step against the padded ones, 0.1 to 30 s.

One clip at a time, float32, the small model with eight language-model layers, both sides in one process and in turns.
The padded side costs the same at 0.1 s and at 30 s; listenwell's cost follows the clip, on top of the prompt's tokens.
Also fits seconds = constant + slope x clip seconds to listenwell's side and says how far the points lie from that line.

    python benchmarks/linear_cost.py                writes benchmarks/results/linear_cost.json, about a minute
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from both_sides import (
    RANK,
    SHORT_CLIPS,
    Clock,
    in_turns,
    make_waveforms,
    run,
    usual_scoring,
    usual_step,
)
from speed import LAYERS, usual_parts

from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.model.mel import extract_features
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.model.prompt import PromptConfig
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import LoraConfig, ModelConfig

SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def measure(folder: Path, scratch: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds; numpy's products on one thread, as training has them: both sides gain."""
    with numpy_on_one_thread():
        rows = measure_lengths(folder, clock)
    return {
        "claim": "cost is linear in the clip's seconds, where the padded recipe pays 30 s for every clip",
        "batch": 1, "dtype": "float32", "seed": 0,
        "rows": rows,
        "line": {side: fit_line(rows, side) for side in ("ours_scored", "ours_trained")},
    }  # fmt: skip


def measure_lengths(folder: Path, clock: Clock) -> list[dict[str, float]]:
    """Seconds of each side by length of the clip."""
    model = load_model(ModelConfig(name=str(folder), device="cpu"))
    scored, processor = usual_parts(folder)
    trained, _ = usual_parts(folder)
    rows = []
    for seconds in SECONDS:
        clip = make_waveforms(seconds, 1)
        # a new network for each length would cost more than it measures: PEFT's adapter is put on once
        step = usual_step(trained, processor, clip) if not rows else usual_step(bare(trained), processor, clip)
        sides = {
            "ours_scored": lambda clip=clip: score(model, clip),
            "ours_trained": our_step(model, clip),
            "padded_scored": usual_scoring(scored, processor, clip, generate=False),
            "padded_trained": step,
        }
        taken = in_turns(sides, {side: 3 if side.startswith("ours") else 1 for side in sides}, 2, clock)
        rows.append({"clip_s": seconds} | taken)
    return rows


def bare(network: Any) -> Any:
    """The network without the PEFT modules that an earlier length put into it."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.get_base_layer())
    return network


def score(model: Qwen2Audio, clips: list[np.ndarray]) -> object:
    mels = [extract_features(model.mel_filters, samples, SHORT_CLIPS) for samples in clips]
    return answer_scores(model, embed_clips(model, mels, 32.0), model.prompt(PromptConfig()))


def our_step(model: Qwen2Audio, clips: list[np.ndarray]) -> Any:
    """One step of one clip with the functions of the training loop, without its files."""
    prompt = model.prompt(PromptConfig())
    targets = model.lora_targets("language_model", "attention+mlp")
    adapter = new_adapter(LoraConfig(rank=RANK), model.network, targets, 0)
    optimizer = torch.optim.AdamW(adapter.factors(), lr=1e-4)
    wanted = torch.zeros(len(clips), dtype=torch.long)

    def step() -> None:
        adapter.dropout_key = (0, 1)
        audio = embed_clips(
            model, [extract_features(model.mel_filters, samples, SHORT_CLIPS) for samples in clips], 32.0
        )
        logits = model.answer_logits([audio], prompt, [adapter])
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        torch.nn.utils.clip_grad_norm_(adapter.factors(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def fit_line(rows: list[dict[str, float]], side: str) -> dict[str, float]:
    """Least squares of seconds over clip seconds, weighted so that every length counts by its own size."""
    x, y = (np.array([row[name] for row in rows]) for name in ("clip_s", side))
    slope, constant = np.polyfit(x, y, 1, w=1 / y)
    off = np.abs(constant + slope * x - y) / y
    return {
        "constant_s": float(constant),
        "seconds_per_clip_second": float(slope),
        "largest_share_off": float(off.max()),
    }


if __name__ == "__main__":
    run(__file__, __doc__, LAYERS, measure)
