"""A plan: the drawn augmentation of one clip in one epoch; a value that can be written, replayed and shown.

`draw_plan` turns a policy and a key into a plan: each stage (crop, background, masks) has its own stream keyed by
(seed, "augment", epoch, clip_id, stage), so the plan depends on no worker, batch or order, and a new stage leaves
the others' draws as they were. `apply_plan` is pure: the same plan on the same samples gives the same bits.

Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from listenwell.augment.mixing import mix_at_snr
from listenwell.augment.spec_augment import Masks, SpecAugmentConfig, draw_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent
from listenwell.data.clip import Background, Clip
from listenwell.random_streams import stream
from listenwell.section import Section

FRAME_SAMPLES = 160


class CropConfig(Section):
    """Training on clips shorter than the recordings."""

    probability: float = Field(0.7, ge=0, le=1)
    """Share of clips that are cropped; the others keep their length."""
    shortest_s: float = Field(0.1, gt=0)
    """Shortest crop; durations are log-uniform."""
    longest_s: float = Field(1.0, gt=0)
    """Longest crop (a shorter clip is its own limit)."""
    quietest_db: float = Field(-12.0, le=0)
    """A crop is no more than this below the clip's loudest stretch of its length: a pause must not be called speech."""

    @model_validator(mode="after")
    def _ordered(self) -> "CropConfig":
        if self.shortest_s > self.longest_s:
            raise ValueError(f"shortest_s ({self.shortest_s}) is longer than longest_s ({self.longest_s})")
        return self


class NoiseConfig(Section):
    """Backgrounds mixed under clips. Every kind in the bank (music, noise) may go under both labels."""

    probability: float = Field(0.7, ge=0, le=1)
    """Share of clips with a background."""
    lowest_snr_db: float = Field(-5.0, ge=-40, le=60)
    """Lowest signal-to-noise ratio; the ratio is uniform in dB."""
    highest_snr_db: float = Field(20.0, ge=-40, le=60)
    """Highest signal-to-noise ratio."""

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseConfig":
        if self.lowest_snr_db > self.highest_snr_db:
            raise ValueError(
                f"lowest_snr_db ({self.lowest_snr_db}) is above highest_snr_db ({self.highest_snr_db}); swap them"
            )
        return self


class AugmentConfig(Section):
    """The augmentation policy, applied on the fly while training."""

    crop: CropConfig = CropConfig()
    noise: NoiseConfig = NoiseConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()


@dataclass(frozen=True, slots=True)
class PlannedBackground:
    """Which stretch of which background is mixed in, and how loud."""

    background_id: str
    offset_s: float
    snr_db: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one clip in one epoch: crop, then background, then masks. None and () mean: not drawn."""

    clip_id: str
    epoch: int | str
    crop_start: int = 0
    crop_length: int | None = None
    background: PlannedBackground | None = None
    masks: Masks | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; crop_start and crop_length in samples."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        background, masks = record["background"], record["masks"]
        return cls(
            record["clip_id"],
            record["epoch"],
            record["crop_start"],
            record["crop_length"],
            None if background is None else PlannedBackground(**background),
            None if masks is None else Masks(_pairs(masks["frequency"]), _pairs(masks["time"]), masks["fill"]),
        )


def _pairs(masks: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((start, width) for start, width in masks)


def draw_plan(
    policy: AugmentConfig,
    clip: Clip,
    samples: Waveform,
    backgrounds: Sequence[Background],
    n_mels: int,
    seed: int,
    epoch: int | str,
) -> Plan:
    """Draw the plan of `clip`, with its samples (n_samples,), for `epoch`."""

    def rng(stage: str) -> np.random.Generator:
        return stream(seed, "augment", epoch, clip.clip_id, stage)

    start, length = _draw_crop(policy.crop, samples, rng("crop"))
    background = _draw_background(policy.noise, length / SAMPLE_RATE_HZ, backgrounds, rng("noise"))
    n_frames = -(-length // FRAME_SAMPLES)
    return Plan(clip.clip_id, epoch, start, length, background, _draw_masks(policy, n_mels, n_frames, rng("masks")))


def _draw_crop(config: CropConfig, samples: Waveform, rng: np.random.Generator) -> tuple[int, int]:
    shortest, longest = (min(samples.size, round(s * SAMPLE_RATE_HZ)) for s in (config.shortest_s, config.longest_s))
    if rng.random() >= config.probability:
        return 0, samples.size
    length = round(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
    starts, levels_db = stretch_levels(samples, length)
    loud = starts[levels_db >= levels_db.max() + config.quietest_db]
    return int(loud[rng.integers(loud.size)]), length


def stretch_levels(samples: Waveform, length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Starts (n,) of the stretches of `length` samples, one every 10 ms, and their levels in dB, full scale = 0."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, samples.size - length + 1, FRAME_SAMPLES)
    mean_square = (energy[starts + length] - energy[starts]) / length
    return starts, 10 * np.log10(np.maximum(mean_square, 1e-12))


def _draw_background(
    config: NoiseConfig, duration_s: float, backgrounds: Sequence[Background], rng: np.random.Generator
) -> PlannedBackground | None:
    if not backgrounds or rng.random() >= config.probability:
        return None
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    offset_s = float(rng.uniform(0.0, max(0.0, background.duration_s - duration_s)))
    return PlannedBackground(
        background.background_id, offset_s, float(rng.uniform(config.lowest_snr_db, config.highest_snr_db))
    )


def _draw_masks(policy: AugmentConfig, n_mels: int, n_frames: int, rng: np.random.Generator) -> Masks | None:
    if rng.random() >= policy.spec_augment.probability:
        return None
    return draw_masks(n_mels, n_frames, policy.spec_augment, rng)


def apply_plan(samples: Waveform, plan: Plan, load_background: Callable[[str, float, float], Waveform]) -> Waveform:
    """Return the cropped and mixed waveform; load_background(background_id, offset_s, duration_s) gives a stretch.

    A crop or a stretch that is silent leaves the clip without background: no ratio to silence exists.
    """
    length = samples.size if plan.crop_length is None else plan.crop_length
    crop = samples[plan.crop_start : plan.crop_start + length]
    if plan.background is None or is_silent(crop):
        return crop
    wanted = plan.background
    stretch = load_background(wanted.background_id, wanted.offset_s, crop.size / SAMPLE_RATE_HZ)
    return crop if is_silent(stretch) else mix_at_snr(crop, stretch, wanted.snr_db).samples
