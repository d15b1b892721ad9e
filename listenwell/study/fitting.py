"""Train one adapter as a study needs it: specify, reuse when it was trained before, otherwise train and keep.

A fit's identity is the hash of everything that decides its bits: the recipe's version, model, prompt, short-clip
policy, LoRA, training and augmentation settings, seed, the clips' content and the backgrounds. A finished identity is
never trained again. Below fits/<identity>/: adapter/ (PEFT format), history.json, plans.jsonl (one line per clip
heard), and spec.json, which is written last and marks the fit as finished.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.atomic_files import atomic_path, write_json
from listenwell.augment.plan import Plan, apply_plan, draw_plan
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ListenwellError
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.listening import hear
from listenwell.model.lora import Adapter
from listenwell.run_folder import RunFolder, identity
from listenwell.study.detectors import FINE_TUNED
from listenwell.study.parts import DEV, TRAIN, Parts
from listenwell.train.fit import DevSet, FitSpec, Progress, hear_dev, train

DEV_EPOCH = "dev"
RECIPE_VERSION = 1
"""Part of a fit's identity; raised when a change of the code makes the same settings train other bits."""


@dataclass(frozen=True, slots=True)
class FinishedFit:
    """A trained adapter and its record (identity, seed, best epoch, steps, history)."""

    folder: Path
    adapter: Adapter
    record: dict[str, Any]


def fit_identity(config: Config, model_fingerprint: str, parts: Parts) -> str:
    """The hash of everything that decides the fit's bits."""
    return identity(**spec_record(config, model_fingerprint, parts))


def spec_record(config: Config, model_fingerprint: str, parts: Parts) -> dict[str, Any]:
    """What a fit is determined by, as JSON values. The number of workers is left out: it changes no bit."""
    sections = config.model_dump(mode="json", include={"lora", "train", "augment", "prompt", "short_clips", "seed"})
    del sections["train"]["workers"]
    return {
        **sections,
        "recipe_version": RECIPE_VERSION,
        "model": model_fingerprint,
        "dtype": config.model.dtype,
        "train_clips": identity(clips=[_content(clip) for clip in parts.clips[TRAIN]]),
        "dev_clips": identity(clips=[_content(clip) for clip in parts.clips[DEV]]),
        "backgrounds": identity(beds=[[b.background_id, b.pcm_sha256] for b in parts.banks[TRAIN].entries]),
    }


def _content(clip: Clip) -> list[Any]:
    return [clip.clip_id, clip.label, clip.group, clip.start_s, clip.duration_s, clip.pcm_sha256 or str(clip.path)]


def fit(
    config: Config,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> FinishedFit:
    """Return the config's fit, trained now or read back."""
    record = spec_record(config, model.fingerprint, parts)
    folder = run.fit(identity(**record))
    if not (folder / "spec.json").is_file():
        _train_into(folder, record, config, model, parts, on_progress)
    adapter, _ = read_adapter(folder / "adapter", model.fingerprint)
    return FinishedFit(folder, adapter, read_json(folder / "history.json"))


def _train_into(
    folder: Path,
    record: dict[str, Any],
    config: Config,
    model: AudioLanguageModel,
    parts: Parts,
    on_progress: Callable[[Progress], None],
) -> None:
    spec = FitSpec(
        FINE_TUNED, config.lora, config.train, config.augment, config.seed, parts.clips[TRAIN], parts.banks[TRAIN]
    )
    n_steps = [0]

    def watch(progress: Progress) -> None:
        n_steps[0] = progress.step
        on_progress(progress)

    dev = hear_dev_set(config, model, parts.clips[DEV], parts.banks[DEV])
    (result,) = train(model, model.prompt(config.prompt), config.short_clips, [spec], dev, watch)
    listens = {
        "base_fingerprint": model.fingerprint,
        "base": config.model.name,
        "prompt": config.prompt.model_dump(mode="json"),
        "short_clips": config.short_clips.model_dump(mode="json"),
    }
    write_adapter(folder / "adapter", result.adapter, config.lora, config.model.name, listens)
    write_plans(folder / "plans.jsonl", result.plans)
    write_json(
        folder / "history.json",
        {
            "name": result.name,
            "identity": folder.name,
            "seed": config.seed,
            "best_epoch": result.best_epoch,
            "n_steps": n_steps[0],
            "history": result.history,
        },
    )
    write_json(folder / "spec.json", record)


def hear_dev_set(config: Config, model: AudioLanguageModel, clips: list[Clip], bank: BackgroundBank) -> DevSet:
    """Dev clips under one fixed plan each, drawn from the training policy without masks, on dev backgrounds."""
    policy = config.augment.model_copy(
        update={"spec_augment": config.augment.spec_augment.model_copy(update={"probability": 0.0})}
    )
    mels = []
    for clip in clips:
        samples = load_waveform(clip)
        plan = draw_plan(policy, clip, samples, bank.entries, 1, config.seed, DEV_EPOCH)
        mels.append(hear(model, apply_plan(samples, plan, bank.load), config.short_clips))
    return hear_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))


def write_plans(path: Path, plans: list[Plan]) -> None:
    """Write one JSON line per clip heard, in the order they were heard."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for plan in plans:
            file.write(json.dumps(plan.to_json(), ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object this project wrote. Raises ListenwellError when it is missing or broken."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ListenwellError(
            f"{path}: cannot be read ({error}); delete its folder and run the study again."
        ) from error
    return content
