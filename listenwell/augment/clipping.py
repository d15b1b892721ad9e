"""Clipping: what a microphone amplifier or a converter does to peaks that are too high.

Every sample beyond a limit is held at the limit, which is given relative to the clip's own peak, so that it hits quiet
and loud clips alike; nothing is made louder. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import numpy as np
from pydantic import Field, model_validator

from listenwell.data.audio import Waveform, peak
from listenwell.section import Section


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


def clip_peaks(samples: Waveform, below_peak_db: float) -> Waveform:
    """Return the samples held within +-(their peak, lowered by below_peak_db), same shape."""
    limit = np.float32(peak(samples) * 10 ** (-below_peak_db / 20))
    clipped: Waveform = np.clip(samples, -limit, limit)
    return clipped
