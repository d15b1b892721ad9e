"""Gain: how loud a clip is recorded. Waveforms: mono float32 (n_samples,), 16 kHz, full scale +-1."""

import numpy as np
from pydantic import Field, model_validator

from listenwell.augment.level import keep_in_range
from listenwell.data.audio import Waveform
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


def change_gain(samples: Waveform, gain_db: float) -> Waveform:
    """Return the samples `gain_db` louder, same shape; less where a peak would leave +-1."""
    return keep_in_range(samples * np.float32(10 ** (gain_db / 20)))
