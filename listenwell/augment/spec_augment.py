"""SpecAugment: masks over frequency and time of a log-mel spectrogram (Park et al. 2019, arXiv:1904.08779).

Masks are drawn for the clip's own frames, so they never fall into padding, and are values: (start, width) in bins or
frames. A width is uniform in 0..F or 0..T inclusive, as in the paper; together the time masks cover at most
`largest_time_share` of the clip, so a short clip is never erased. Masked cells take the value of silence ("floor") or
the clip's mean, not zero: zero is a loud value in a log-mel spectrogram.

Shapes: features float32 (n_mels, n_frames).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from listenwell.section import Section


class SpecAugmentConfig(Section):
    """How much of the spectrogram is hidden while training."""

    probability: float = Field(0.5, ge=0, le=1)
    """Share of clips that are masked."""
    n_frequency_masks: int = Field(2, ge=0)
    """Masks over mel bins."""
    widest_frequency_mask: int = Field(15, ge=0)
    """Largest width of one frequency mask, in mel bins (inclusive)."""
    n_time_masks: int = Field(2, ge=0)
    """Masks over frames."""
    widest_time_mask: int = Field(35, ge=0)
    """Largest width of one time mask, in frames of 10 ms (inclusive)."""
    largest_time_share: float = Field(0.4, ge=0, le=1)
    """Largest share of the clip's frames that all time masks may cover together."""
    fill: Literal["floor", "mean"] = "floor"
    """Value of masked cells: the clip's silence or its mean."""


@dataclass(frozen=True, slots=True)
class Masks:
    """Each mask is (start, width): bins for frequency, frames of the clip for time; fill as in the config."""

    frequency: tuple[tuple[int, int], ...] = ()
    time: tuple[tuple[int, int], ...] = ()
    fill: Literal["floor", "mean"] = "floor"


def draw_masks(n_mels: int, n_frames: int, config: SpecAugmentConfig, rng: np.random.Generator) -> Masks:
    """Draw the masks of one clip of n_frames frames."""
    frequency = [
        _draw_mask(n_mels, min(config.widest_frequency_mask, n_mels), rng) for _ in range(config.n_frequency_masks)
    ]
    budget = int(config.largest_time_share * n_frames)
    time = []
    for _ in range(config.n_time_masks):
        mask = _draw_mask(n_frames, min(config.widest_time_mask, budget), rng)
        budget -= mask[1]
        time.append(mask)
    return Masks(tuple(frequency), tuple(time), config.fill)


def _draw_mask(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    return int(rng.integers(length - width + 1)), width


def apply_masks(
    features: NDArray[np.float32], masks: Masks, first_frame: int, fill_value: float
) -> NDArray[np.float32]:
    """Return a masked copy; the clip begins at `first_frame`, before and after it only bins are masked."""
    masked = features.copy()
    for start, width in masks.frequency:
        masked[start : start + width] = fill_value
    for start, width in masks.time:
        masked[:, first_frame + start : first_frame + start + width] = fill_value
    return masked
