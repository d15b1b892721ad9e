"""Speed: play a clip faster or slower, as a tape does; pitch and duration change together.

Speed perturbation (Ko, Peddinti, Povey & Khudanpur 2015, "Audio augmentation for speech recognition"): resampling by
soxr's "HQ" recipe, read at the old rate. A speed of 1.1 lasts 1 / 1.1 as long and sounds 12 log2(1.1) = 1.65 semitones
higher. Above 1, what would pass half the sampling rate is filtered out. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import numpy as np
import soxr
from pydantic import Field, model_validator

from listenwell.augment.level import keep_in_range
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.section import Section


class SpeedConfig(Section):
    """Playing clips faster or slower (pitch and duration together)."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips whose speed is changed."""
    lowest: float = Field(0.9, ge=0.5, le=2)
    """Lowest speed; 1 is unchanged, speeds are uniform."""
    highest: float = Field(1.1, ge=0.5, le=2)
    """Highest speed."""

    @model_validator(mode="after")
    def _ordered(self) -> "SpeedConfig":
        if self.lowest > self.highest:
            raise ValueError(f"lowest ({self.lowest}) is above highest ({self.highest}); swap them")
        return self


def change_speed(samples: Waveform, speed: float) -> Waveform:
    """Return the samples played at `speed`, shape (count_after(n_samples, speed),), within +-1.

    Raises ValueError for a speed that is not above 0.
    """
    wanted = count_after(samples.size, speed)
    return keep_in_range(fit_length(resample(samples, SAMPLE_RATE_HZ * speed), wanted))


def count_after(n_samples: int, rate: float) -> int:
    """How many samples n_samples last at `rate` (a speed or a tempo): at least one. ValueError unless rate > 0."""
    if not rate > 0:
        raise ValueError(f"the rate is {rate:g}; expected a number above 0, 1 leaves the clip as it is")
    return max(1, round(n_samples / rate))


def resample(samples: Waveform, from_hz: float) -> Waveform:
    """Resample from `from_hz` to 16 kHz; the count is a sample off its exact number at times (`fit_length`)."""
    resampled: Waveform = soxr.resample(samples, from_hz, SAMPLE_RATE_HZ, quality="HQ")
    return resampled


def fit_length(samples: Waveform, n_wanted: int) -> Waveform:
    """Return the samples cut, or followed by zeros, to shape (n_wanted,)."""
    fitted = np.zeros(n_wanted, dtype=np.float32)
    fitted[: samples.size] = samples[:n_wanted]
    return fitted
