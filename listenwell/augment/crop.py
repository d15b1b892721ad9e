"""Which stretch of a recording is a clip in training, and the noise of the room it lies in.

Crop: train on stretches shorter than the recordings, never on a pause. A crop's length is log-uniform and counts after
speed and tempo, which change a clip before it is cropped. Its place is drawn among the stretches of that length, one
every 10 ms, that are not much quieter than the loudest of them.

Room tone: a word is rarely cut at its first sound. The stationary noise of a room or microphone reaches from before the
clip until after it and lies under it too, as in a recording: noise whose power falls with frequency as f^-tilt (0
white, 1 pink) above 50 Hz, at a level given relative to the clip's own.

Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, rms
from listenwell.random_streams import stream
from listenwell.section import Section, in_order

STEP_SAMPLES = 160
LOWEST_HZ = 50.0


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

    _ordered = in_order("shortest_s", "longest_s")


def draw_crop(config: CropConfig, samples: Waveform, n_played: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw (start, length), counted in the n_played samples that `samples` become by speed and tempo."""
    limits = (round(seconds * SAMPLE_RATE_HZ) for seconds in (config.shortest_s, config.longest_s))
    shortest, longest = (max(1, min(n_played, limit)) for limit in limits)
    if rng.random() >= config.probability:
        return 0, n_played
    length = round(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
    starts, levels_db = stretch_levels(samples, length, n_played)
    loud = starts[levels_db >= levels_db.max() + config.quietest_db]
    return int(loud[rng.integers(loud.size)]), length


def stretch_levels(
    samples: Waveform, length: int, n_played: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Starts (n,) of the stretches of `length` samples, one every 10 ms, and their levels in dB, full scale = 0.

    n_played: how many samples the whole becomes, where speed or tempo change that; starts and length count there.
    """
    n_played = samples.size if n_played is None else n_played
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, n_played - length + 1, STEP_SAMPLES)
    first, end = (place * samples.size // n_played for place in (starts, starts + length))
    mean_square = (energy[end] - energy[first]) / np.maximum(end - first, 1)
    return starts, 10 * np.log10(np.maximum(mean_square, 1e-12))


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

    _ordered = in_order("lowest_db", "highest_db")


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
