"""One training step and scoring: un-padded, packed rows against the usual recipe, same clips, same adapter shape.

The usual recipe is transformers + PEFT as people write it: WhisperFeatureExtractor pads each mel to 30 s, the processor
pads the texts, LoRA sits on bare target names, the loss is the model's own over the whole vocabulary at the answer,
gradients clipped, AdamW. Scoring there is `generate` of one token, clip by clip, or one padded forward per clip. Both
sides run float32 in the same process, in turns, on clips of 1 s of noise; each side's peak memory is of a child process
of its own. The small model with eight language-model layers, batch 8, LoRA rank 8 on attention and MLP, dropout off.

    python benchmarks/usual_recipe.py               writes benchmarks/results/usual_recipe.json, about six minutes
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.atomic_files import write_json
from listenwell.cache import cache_root
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.model.listening import answer_scores, embed_clips, hear
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.short_clips import ShortClipConfig
from listenwell.model.small import build_small_model
from listenwell.random_streams import stream
from listenwell.run_folder import provenance

LAYERS, BATCH, RANK = 8, 8, 8
BARE_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
Work = Callable[[], object]


def main() -> None:
    """Measure both sides and write the JSON; with --peak SIDE, take one step of one side and print its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", choices=("ours", "usual"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "usual_recipe.json")
    asked = parser.parse_args()
    if asked.peak:
        make_step = {"ours": ours_step, "usual": usual_step}[asked.peak]
        make_step(asked.model, make_clips(1.0, BATCH))()
        print(own_peak_gib())
        return
    with tempfile.TemporaryDirectory() as folder:
        report = measure(build_small_model(Path(folder) / "model", cache_root(), layers=LAYERS, aligned=False))
    write_json(asked.out, report)
    print(json.dumps({key: value for key, value in report.items() if key != "provenance"}, indent=1), asked.out)


def measure(model: Path) -> dict[str, Any]:
    """Everything the JSON holds."""
    clips = make_clips(1.0, BATCH)
    step = in_turns({"ours": ours_step(model, clips), "usual": usual_step(model, clips)}, {"ours": 6, "usual": 2}, 3)
    scoring = in_turns(
        {"ours": ours_scoring(model, clips), "generate": usual_scoring(model, clips, generate=True),
         "padded": usual_scoring(model, clips, generate=False)},
        {"ours": 6, "generate": 1, "padded": 1}, 2,
    )  # fmt: skip
    peaks = {side: peak_gib(model, side) for side in ("ours", "usual")}
    return {
        "claim": "how many times faster a training step and scoring are than the usual recipe, and in how much memory",
        "layers": LAYERS, "batch": BATCH, "dtype": "float32",
        "training_step_s": step, "training_step_ratio": step["usual"] / step["ours"],
        "scoring_s_of_batch": scoring,
        "scoring_ratio": {side: scoring[side] / scoring["ours"] for side in ("generate", "padded")},
        "peak_memory_gib": peaks, "peak_memory_ratio": peaks["ours"] / peaks["usual"],
        "forward_s_by_clip_seconds": [by_length(model, seconds) for seconds in SECONDS],
        "matmul_gflops": matmul_gflops(),
        "provenance": provenance(),
    }  # fmt: skip


def make_clips(seconds: float, n: int) -> list[np.ndarray]:
    size = round(seconds * SAMPLE_RATE_HZ)
    return [0.1 * stream(0, "clip", i).standard_normal(size, dtype=np.float32) for i in range(n)]


def in_turns(sides: dict[str, Work], repeats: dict[str, int], rounds: int) -> dict[str, float]:
    """Median seconds of each side's work over rounds in which the sides take turns; the first call warms up."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for work in sides.values():
        work()
    for _ in range(rounds):
        for side, work in sides.items():
            started = time.perf_counter()
            for _ in range(repeats[side]):
                work()
            taken[side].append((time.perf_counter() - started) / repeats[side])
    return {side: float(np.median(seconds)) for side, seconds in taken.items()}


def ours_step(folder: Path, clips: list[np.ndarray]) -> Work:
    model = load_model(ModelConfig(name=str(folder), device="cpu"))
    prompt, short = model.prompt(PromptConfig()), ShortClipConfig()
    config = LoraConfig(rank=RANK, dropout=0.0)
    adapter = new_adapter(config, model.network, model.lora_targets("language_model", "attention+mlp"), 0)
    optimizer = torch.optim.AdamW(adapter.factors(), lr=1e-4)
    wanted = torch.arange(len(clips)) % 2

    def step() -> None:
        audio = embed_clips(model, [hear(model, samples, short) for samples in clips], 32.0)
        logits = model.answer_logits([audio], prompt, [adapter])
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        torch.nn.utils.clip_grad_norm_(adapter.factors(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours_scoring(folder: Path, clips: list[np.ndarray]) -> Work:
    model = load_model(ModelConfig(name=str(folder), device="cpu"))
    prompt, short = model.prompt(PromptConfig()), ShortClipConfig()

    def score() -> object:
        return answer_scores(model, embed_clips(model, [hear(model, s, short) for s in clips], 32.0), prompt)

    return score


def usual_parts(folder: Path) -> tuple[Any, Any, str]:
    network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    before, after = prompt_text(PromptConfig(), processor)
    return network, processor, f"{before}{processor.audio_token}{after}"


def usual_step(folder: Path, clips: list[np.ndarray]) -> Work:
    network, processor, text = usual_parts(folder)
    network = get_peft_model(network, PeftLoraConfig(r=RANK, lora_alpha=32, target_modules=BARE_TARGETS)).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    texts = [text + ("yes", "no")[i % 2] for i in range(len(clips))]

    def step() -> None:
        inputs = processor(text=texts, audio=clips, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", padding=True)
        labels = torch.full_like(inputs["input_ids"], -100)
        labels[:, -1] = inputs["input_ids"][:, -1]
        network(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def usual_scoring(folder: Path, clips: list[np.ndarray], *, generate: bool) -> Work:
    network, processor, text = usual_parts(folder)
    network = network.eval()

    def score() -> None:
        for samples in clips:
            inputs = processor(text=[text], audio=[samples], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
            with torch.no_grad():
                if generate:
                    network.generate(**inputs, max_new_tokens=2, do_sample=False)
                else:
                    network(**inputs)

    return score


def by_length(folder: Path, seconds: float) -> dict[str, float]:
    """Seconds of one scored clip of this length, both sides."""
    clips = make_clips(seconds, 1)
    sides = {"ours": ours_scoring(folder, clips), "padded": usual_scoring(folder, clips, generate=False)}
    return {"clip_s": seconds, **in_turns(sides, {"ours": 3, "padded": 1}, 1)}


def peak_gib(folder: Path, side: str) -> float:
    command = [sys.executable, __file__, "--peak", side, "--model", str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_peak_gib() -> float:
    """The most memory this program has held; getrusage would also count what its parent held when it was started."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20


def matmul_gflops(size: int = 1024, repeats: int = 20) -> float:
    """What a plain large float32 matrix product reaches here."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    one @ other
    started = time.perf_counter()
    for _ in range(repeats):
        one @ other
    return 2 * size**3 * repeats / (time.perf_counter() - started) / 1e9


if __name__ == "__main__":
    main()
