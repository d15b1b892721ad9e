"""Crop: train on stretches shorter than the recordings, never on a pause.

A crop's length is log-uniform and is that of what is heard: speed and tempo change a clip before it is cropped. Its
place is drawn among the stretches of that length, one every 10 ms, that are not much quieter than the loudest of them.
Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.section import Section

STEP_SAMPLES = 160


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


def draw_crop(config: CropConfig, samples: Waveform, n_heard: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw (start, length) in samples of what is heard: `samples`, played so that it has n_heard samples."""
    shortest, longest = (max(1, min(n_heard, round(s * SAMPLE_RATE_HZ))) for s in (config.shortest_s, config.longest_s))
    if rng.random() >= config.probability:
        return 0, n_heard
    length = round(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
    starts, levels_db = stretch_levels(samples, length, n_heard)
    loud = starts[levels_db >= levels_db.max() + config.quietest_db]
    return int(loud[rng.integers(loud.size)]), length


def stretch_levels(
    samples: Waveform, length: int, n_heard: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Starts (n,) of the stretches of `length` samples, one every 10 ms, and their levels in dB, full scale = 0.

    n_heard: how many samples the whole is heard for, where speed or tempo change that; starts and length count there.
    """
    n_heard = samples.size if n_heard is None else n_heard
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, n_heard - length + 1, STEP_SAMPLES)
    first, end = (place * samples.size // n_heard for place in (starts, starts + length))
    mean_square = (energy[end] - energy[first]) / np.maximum(end - first, 1)
    return starts, 10 * np.log10(np.maximum(mean_square, 1e-12))
