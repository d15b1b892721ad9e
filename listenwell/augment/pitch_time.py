"""Speed, pitch and tempo: exact resampling, and Signalsmith Stretch.

    speed v: resampled, pitch and duration together, as a tape does (speed perturbation: Ko, Peddinti, Povey &
    Khudanpur 2015, "Audio augmentation for speech recognition"). A speed of 1.1 lasts 1 / 1.1 as long and sounds
    12 log2(1.1) = 1.65 semitones higher; above 1, what would pass half the sampling rate is filtered out.
    tempo t: stretched to 1 / t of its length.   pitch of s semitones, p = 2^(s / 12): stretched to p times, then
    resampled by p. Both: one stretch by p / t, one resampling.
The stretch keeps frequencies to 0.2 cents; its own transposition was up to 34 cents off for tones below 250 Hz at
16 kHz, where voices lie, so the resampling (soxr "HQ") does that part. Formants move with the pitch. A clip shorter
than the stretch's block of 100 ms is heard with its attack softened; its level is restored like every clip's.
Signalsmith Stretch (Geraint Luff, MIT licence) through python-stretch. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import threading
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
from pydantic import Field

from listenwell.augment.mixing import keep_in_range, measure_level
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent
from listenwell.section import Section, in_order


class RateConfig(Section):
    """Playing clips at another rate."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips that are changed."""
    lowest: float = Field(0.9, ge=0.5, le=2)
    """Lowest rate; 1 is unchanged, rates are uniform."""
    highest: float = Field(1.1, ge=0.5, le=2)
    """Highest rate."""

    _ordered = in_order("lowest", "highest")


class SpeedConfig(RateConfig):
    """Playing clips faster or slower (pitch and duration together)."""


class TempoConfig(RateConfig):
    """Tempo changes; pitches stay."""


class PitchConfig(Section):
    """Pitch shifts; durations stay."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips whose pitch is shifted."""
    lowest_semitones: float = Field(-2.0, ge=-12, le=12)
    """Lowest shift; shifts are uniform, fractions of a semitone included."""
    highest_semitones: float = Field(2.0, ge=-12, le=12)
    """Highest shift."""

    _ordered = in_order("lowest_semitones", "highest_semitones")


def change_speed(samples: Waveform, speed: float) -> Waveform:
    """Return the samples played at `speed`, shape (count_after(n_samples, speed),), within +-1."""
    wanted = count_after(samples.size, speed)
    return keep_in_range(fit_length(resample(samples, SAMPLE_RATE_HZ * speed), wanted))


def change_pitch_and_tempo(samples: Waveform, semitones: float = 0.0, tempo: float = 1.0) -> Waveform:
    """Return the samples `semitones` higher at `tempo`, shape (count_after(n_samples, tempo),).

    The level stays, lower only where a peak would leave +-1; silence stays silence.
    """
    wanted, ratio = count_after(samples.size, tempo), 2 ** (semitones / 12)
    if is_silent(samples):
        return np.zeros(wanted, dtype=np.float32)
    stretched = _stretch(samples, tempo / ratio)
    changed = fit_length(stretched if semitones == 0 else resample(stretched, SAMPLE_RATE_HZ * ratio), wanted)
    level = measure_level(changed)
    return keep_in_range(changed * np.float32(measure_level(samples) / level)) if level > 0 else changed


def _stretch(samples: Waveform, tempo: float) -> Waveform:
    stretcher = _stretcher(threading.get_ident())
    stretcher.reset()
    stretcher.setTimeFactor(tempo)
    stretched: Waveform = stretcher.process(samples[None])[0]
    return stretched


@lru_cache(maxsize=64)
def _stretcher(thread: int) -> Any:
    """One stretcher per thread: it holds state while it runs, and making one costs a fifth of using it on a second."""
    from python_stretch import Signalsmith

    stretcher = Signalsmith.Stretch()
    # What it adds to a voice lies 37 dB below, as a mu-law codec's noise does; the full preset leaves 55 dB and takes
    # twice as long.
    stretcher.preset(1, SAMPLE_RATE_HZ, cheaper=True)
    return stretcher


def count_after(n_samples: int, rate: float) -> int:
    """How many samples n_samples last at `rate` (a speed or a tempo): at least one."""
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
