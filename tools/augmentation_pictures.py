"""The pictures of docs/augmentation.md: one word of the starter corpus before and after every stage, as log-mel.

    python tools/augmentation_pictures.py CLIP_ID BACKGROUND_ID     writes docs/augmentation/STAGE.jpg

The stages are those of a plan, done by `apply_plan`, so a picture shows what training hears.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from transformers import WhisperFeatureExtractor

from listenwell.augment.noise import PlannedBackground
from listenwell.augment.plan import Plan, apply_plan
from listenwell.augment.recording import Band
from listenwell.augment.reverb import Room
from listenwell.augment.spec_augment import Masks, apply_masks
from listenwell.config import load_config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.model.mel import LogMel, log_mel
from listenwell.splits.clips import prepare

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "augmentation"
WIDTH_IN, HEIGHT_IN, DPI = 6.4, 1.7, 80
N_MELS = 80


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip_id")
    parser.add_argument("background_id")
    asked = parser.parse_args()
    config = load_config(ROOT / "configs" / "starter.yaml", [])
    clips, backgrounds = prepare(config)
    clip = next(each for each in clips if each.clip_id == asked.clip_id)
    bank = BackgroundBank(backgrounds)
    samples = load_waveform(clip)
    filters = np.asarray(WhisperFeatureExtractor(feature_size=N_MELS).mel_filters, dtype=np.float32)
    before = log_mel(samples, filters)
    FOLDER.mkdir(exist_ok=True)
    for stage, changes in planned_stages(samples.size, asked.background_id).items():
        plan = Plan(clip.clip_id, 1, **changes)
        after = log_mel(apply_plan(samples, plan, bank.load), filters)
        shown = after.features if plan.masks is None else apply_masks(after.features, plan.masks, 0, after.floor)
        draw(FOLDER / f"{stage}.jpg", before, LogMel(shown, after.n_frames))


def planned_stages(n_samples: int, background_id: str) -> Mapping[str, Mapping[str, Any]]:
    """Return one plan's drawn fields for each stage, by the stage's name."""
    return {
        "speed": {"speed": 0.9},
        "pitch": {"semitones": 2.0},
        "tempo": {"tempo": 0.8},
        "room": {"room": Room(t60_s=0.8, noise_seed=7)},
        "crop": {"crop_start": n_samples // 3, "crop_length": n_samples // 4},
        "background": {"background": PlannedBackground(background_id, 0.0, 5.0)},
        "telephone": {"band": Band(300.0, 3400.0), "codes_mu_law": True},
        "masks": {"masks": Masks(frequency=((10, 8), (50, 12)), time=((30, 12), (70, 15)))},
    }


def draw(path: Path, before: LogMel, after: LogMel) -> None:
    """Draw both spectrograms in one scale of time and frequency, each from its own silence to its loudest."""
    n_frames = max(before.n_frames, after.n_frames)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, HEIGHT_IN), sharey=True, layout="constrained")
    for axis, mel, title in zip(axes, (before, after), ("recording", "heard"), strict=True):
        axis.imshow(
            mel.features[:, : mel.n_frames], origin="lower", aspect="auto", cmap="magma", vmin=mel.floor,
            vmax=float(mel.features.max()), extent=(0, mel.n_frames / 100, 0, N_MELS), interpolation="nearest",
        )  # fmt: skip
        axis.set_xlim(0, n_frames / 100)
        axis.set_facecolor("0.85")
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("seconds", fontsize=7)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("mel bin", fontsize=7)
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 75, "optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    main()
