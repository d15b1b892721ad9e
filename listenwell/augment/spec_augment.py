"""SpecAugment: masks over frequency and time of a log-mel spectrogram (Park et al. 2019, arXiv:1904.08779).

Masks are drawn for the clip's own frames, so they never fall into padding, and are values: (start, width) in bins or
frames. A width is uniform in 0..F or 0..T inclusive, as in the paper; together the time masks cover at most
`largest_time_share` of the clip, so a short clip is never erased. Masked cells take the value of silence ("floor") or
the clip's mean, not zero: zero is a loud value in a log-mel spectrogram.

Time warping (the paper's W): one frame of the clip is moved along time and both sides are stretched to fit, linearly in
place of the paper's spline; the clip's first and last frame stay. It comes before the masks.

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
    warped_share: float = Field(0.0, ge=0, le=1)
    """Share of the masked clips that are warped in time as well."""
    furthest_warp: int = Field(10, ge=0)
    """Furthest that a frame is moved, in frames of 10 ms (inclusive); less in clips of fewer than twice as many."""


@dataclass(frozen=True, slots=True)
class Warp:
    """In a clip of n_frames, the frame `from_frame` is heard at `to_frame`."""

    from_frame: int
    to_frame: int
    n_frames: int


@dataclass(frozen=True, slots=True)
class Masks:
    """Each mask is (start, width): bins for frequency, frames of the clip for time; fill as in the config."""

    frequency: tuple[tuple[int, int], ...] = ()
    time: tuple[tuple[int, int], ...] = ()
    fill: Literal["floor", "mean"] = "floor"
    warp: Warp | None = None


def draw_masks(n_mels: int, n_frames: int, config: SpecAugmentConfig, rng: np.random.Generator) -> Masks:
    """Draw the masks, and the warp if any, of one clip of n_frames frames."""
    frequency = [
        _draw_mask(n_mels, min(config.widest_frequency_mask, n_mels), rng) for _ in range(config.n_frequency_masks)
    ]
    budget = int(config.largest_time_share * n_frames)
    time = []
    for _ in range(config.n_time_masks):
        mask = _draw_mask(n_frames, min(config.widest_time_mask, budget), rng)
        budget -= mask[1]
        time.append(mask)
    warp = _draw_warp(n_frames, config, rng) if config.warped_share > 0 else None
    return Masks(tuple(frequency), tuple(time), config.fill, warp)


def _draw_mask(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    return int(rng.integers(length - width + 1)), width


def _draw_warp(n_frames: int, config: SpecAugmentConfig, rng: np.random.Generator) -> Warp | None:
    """A frame at least the furthest move from both ends, so that neither side shrinks to nothing."""
    furthest = min(config.furthest_warp, (n_frames - 1) // 2 - 1)
    if rng.random() >= config.warped_share or furthest < 1:
        return None
    from_frame = int(rng.integers(furthest + 1, n_frames - furthest - 1))
    return Warp(from_frame, from_frame + int(rng.integers(-furthest, furthest + 1)), n_frames)


def apply_masks(
    features: NDArray[np.float32], masks: Masks, first_frame: int, fill_value: float
) -> NDArray[np.float32]:
    """Return a warped and masked copy; the clip begins at `first_frame`, before and after it only bins are masked."""
    masked = features.copy()
    if masks.warp is not None:
        clip = slice(first_frame, first_frame + masks.warp.n_frames)
        masked[:, clip] = warp_time(features[:, clip], masks.warp)
    for start, width in masks.frequency:
        masked[start : start + width] = fill_value
    for start, width in masks.time:
        masked[:, first_frame + start : first_frame + start + width] = fill_value
    return masked


def warp_time(features: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    """Return (n_mels, n_frames) features with one frame moved; what lies between is interpolated linearly in time."""
    last = warp.n_frames - 1
    places = np.interp(np.arange(warp.n_frames), [0, warp.to_frame, last], [0, warp.from_frame, last])
    before = np.minimum(places.astype(np.intp), max(last - 1, 0))
    share = (places - before).astype(np.float32)
    warped: NDArray[np.float32] = features[:, before] * (1 - share) + features[:, np.minimum(before + 1, last)] * share
    return warped
