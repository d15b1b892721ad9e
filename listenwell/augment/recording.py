"""What a recorder does to a sound: how loud it is recorded, and what becomes of peaks that are too high.

Clipping holds every sample beyond a limit at the limit, which is given relative to the clip's own peak, so that it hits
quiet and loud clips alike; nothing is made louder. Waveforms: mono float32 (n_samples,), 16 kHz, full scale +-1.

Room tone: a clip lies somewhere in a longer stretch of the stationary noise of its room or microphone.

A word is rarely cut at its first sound. The tone reaches from before the clip until after it and lies under it too, as
in a recording: noise whose power falls with frequency as f^-tilt (0 white, 1 pink) above 50 Hz, at a level given
relative to the clip's own. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from listenwell.augment.mixing import keep_in_range
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak, rms
from listenwell.random_streams import stream
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


LOWEST_HZ = 50.0


class RoomToneConfig(Section):
    """Clips that begin and end in the noise of their room."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips that get a room tone."""
    longest_s: float = Field(0.5, ge=0, le=10)
    """Longest stretch of it before the clip, and after; durations are uniform from zero."""
    lowest_db: float = Field(-60.0, ge=-100, le=0)
    """Lowest level of the tone relative to the clip's; levels are uniform in dB."""
    highest_db: float = Field(-20.0, ge=-100, le=0)
    """Highest level."""
    highest_tilt: float = Field(2.0, ge=0, le=4)
    """Its power falls with frequency as f^-tilt; tilts are uniform from 0 (white) to this."""

    @model_validator(mode="after")
    def _ordered(self) -> "RoomToneConfig":
        if self.lowest_db > self.highest_db:
            raise ValueError(f"lowest_db ({self.lowest_db}) is above highest_db ({self.highest_db}); swap them")
        return self


@dataclass(frozen=True, slots=True)
class RoomTone:
    """before, after: samples of tone alone; level_db: relative to the clip's; noise_seed keys the noise itself."""

    before: int
    after: int
    level_db: float
    tilt: float
    noise_seed: int


def draw_room_tone(config: RoomToneConfig, rng: np.random.Generator) -> RoomTone | None:
    """Draw a room tone, None for a clip that gets none."""
    if rng.random() >= config.probability:
        return None
    before, after = rng.integers(round(config.longest_s * SAMPLE_RATE_HZ) + 1, size=2)
    level_db = float(rng.uniform(config.lowest_db, config.highest_db))
    return RoomTone(
        int(before), int(after), level_db, float(rng.uniform(0, config.highest_tilt)), int(rng.integers(2**31))
    )


def lay_in_room_tone(samples: Waveform, tone: RoomTone) -> Waveform:
    """Return the clip in its tone, shape (before + n_samples + after,); a silent clip stays in silence."""
    longer: Waveform = np.pad(samples, (tone.before, tone.after))
    level = rms(samples) * 10 ** (tone.level_db / 20)
    return longer + np.float32(level) * make_noise(longer.size, tone.tilt, tone.noise_seed)


def make_noise(n_samples: int, tilt: float, seed: int) -> Waveform:
    """Return noise of unit level, shape (n_samples,), whose power falls as f^-tilt above LOWEST_HZ."""
    white = stream(seed, "room_tone").standard_normal(n_samples)
    frequencies = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE_HZ)
    shaped = np.fft.irfft(np.fft.rfft(white) * np.maximum(frequencies, LOWEST_HZ) ** (-tilt / 2), n_samples)
    noise: Waveform = (shaped / np.sqrt(np.mean(np.square(shaped)))).astype(np.float32)
    return noise
