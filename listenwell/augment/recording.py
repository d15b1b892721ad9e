"""What a recorder does to a sound: how loud it is recorded, and what becomes of peaks that are too high.

Clipping holds every sample beyond a limit at the limit, which is given relative to the clip's own peak, so that it hits
quiet and loud clips alike; nothing is made louder. Waveforms: mono float32 (n_samples,), 16 kHz, full scale +-1.
"""

import numpy as np
from pydantic import Field, model_validator

from listenwell.augment.level import keep_in_range
from listenwell.data.audio import Waveform, peak
from listenwell.section import Section


class GainConfig(Section):
    """Changes of level."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips whose level is changed."""
    lowest_db: float = Field(-20.0, ge=-60, le=60)
    """Lowest gain; gains are uniform in dB."""
    highest_db: float = Field(6.0, ge=-60, le=60)
    """Highest gain; less where a peak would leave full scale."""

    @model_validator(mode="after")
    def _ordered(self) -> "GainConfig":
        if self.lowest_db > self.highest_db:
            raise ValueError(f"lowest_db ({self.lowest_db}) is above highest_db ({self.highest_db}); swap them")
        return self


class ClippingConfig(Section):
    """Peaks cut off."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips that are clipped."""
    least_db: float = Field(3.0, gt=0, le=40)
    """Least distance of the limit below the clip's peak; distances are uniform in dB."""
    most_db: float = Field(15.0, gt=0, le=40)
    """Largest distance."""

    @model_validator(mode="after")
    def _ordered(self) -> "ClippingConfig":
        if self.least_db > self.most_db:
            raise ValueError(f"least_db ({self.least_db}) is above most_db ({self.most_db}); swap them")
        return self


def change_gain(samples: Waveform, gain_db: float) -> Waveform:
    """Return the samples `gain_db` louder, same shape; less where a peak would leave +-1."""
    return keep_in_range(samples * np.float32(10 ** (gain_db / 20)))


def clip_peaks(samples: Waveform, below_peak_db: float) -> Waveform:
    """Return the samples held within +-(their peak, lowered by below_peak_db), same shape."""
    limit = np.float32(peak(samples) * 10 ** (-below_peak_db / 20))
    clipped: Waveform = np.clip(samples, -limit, limit)
    return clipped
