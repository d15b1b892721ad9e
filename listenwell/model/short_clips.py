"""The declared policy for very short clips, applied wherever a clip meets the model.

A Whisper-style tower turns 40 ms into one token, and a 20 ms clip into none: the model would hear nothing. A clip
shorter than `minimum_s` is placed in `minimum_s` of faint noise (or zeros). The noise is one fixed array, so what
the model hears is a pure function of the clip's samples. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.random_streams import stream
from listenwell.section import Section


class ShortClipConfig(Section):
    """How clips shorter than `minimum_s` are lengthened, the same in training, scoring and detection."""

    minimum_s: float = Field(0.6, ge=0.04, le=30.0)
    """Clips shorter than this many seconds are lengthened to it; 0.04 s is one audio token."""
    placement: Literal["centre", "start"] = "centre"
    """Where the clip lies inside the lengthened stretch."""
    fill: Literal["noise", "zeros"] = "noise"
    """What surrounds the clip."""
    fill_level_db: float = Field(-60.0, ge=-120.0, le=0.0)
    """Standard deviation of the noise relative to the clip's peak, in dB."""


def lengthen(samples: Waveform, config: ShortClipConfig) -> Waveform:
    """Return `samples` unchanged when long enough, otherwise placed in `minimum_s` of fill."""
    n_wanted = round(config.minimum_s * SAMPLE_RATE_HZ)
    if samples.size >= n_wanted:
        return samples
    filled = np.zeros(n_wanted, dtype=np.float32)
    if config.fill == "noise":
        filled += fill_noise(n_wanted) * np.float32(peak(samples) * 10 ** (config.fill_level_db / 20))
    start = first_sample(samples.size, config)
    filled[start : start + samples.size] = samples
    return filled


def first_sample(n_samples: int, config: ShortClipConfig) -> int:
    """Where the first of n_samples lies after lengthening."""
    n_missing = max(0, round(config.minimum_s * SAMPLE_RATE_HZ) - n_samples)
    return n_missing // 2 if config.placement == "centre" else 0


@lru_cache(maxsize=4)
def fill_noise(n_samples: int) -> Waveform:
    """Return the fixed white Gaussian noise of unit variance, shape (n_samples,)."""
    return stream(0, "short_clips", "fill").standard_normal(n_samples, dtype=np.float32)
