"""Mix backgrounds into a clip at chosen signal-to-noise ratios.

Waveforms are mono float32, shape (n_samples,), 16 kHz. Levels are root mean square over the whole clip, or over its
active part, the frames of 10 ms within ACTIVE_RANGE_DB of the loudest one, of clip and background alike:
    SNR = 20 log10(rms(clip) / rms(background)).
A background shorter than the clip is repeated with a cross-fade before its level is measured. The mixture is scaled
down as a whole when it would leave +-1, which changes no ratio; the gain is returned. What is quieter than LEAST_LEVEL
counts as silent: there is no ratio to it. Backgrounds: music, noise and voices such as MUSAN's (Snyder, Chen & Povey
2015, arXiv:1510.08484). Knows nothing of files or configs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import Waveform
from listenwell.data.backgrounds import repeat_to
from listenwell.errors import AudioError

FRAME_SAMPLES = 160
ACTIVE_RANGE_DB = 30.0
LEAST_LEVEL = 1e-6
"""-120 dB: far below one step of 16 bit, and far above where float32 runs out of small numbers."""
LevelOver = Literal["clip", "active"]
BLOCK_SAMPLES = 4096
"""Squares are summed in float32 within a block and in float64 over blocks: one pass, 1e-6 of the exact sum, and too
short a product for BLAS to divide among threads, whose number would change the last bit."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """samples = gain * (clip + background_gain * background), shape (n_samples,), within +-1."""

    samples: Waveform
    gain: float
    background_gain: float


def mix_at_snr(clip: Waveform, background: Waveform, snr_db: float, over: LevelOver = "clip") -> Mixture:
    """Return clip + background at `snr_db`; the background is cut or repeated to the clip's length.

    Raises AudioError when clip or background is empty, silent or not finite: no ratio to silence exists.
    """
    background = repeat_to(background, clip.size)
    background_gain = gain_for_snr(clip, background, snr_db, over)
    samples, gain = add_backgrounds(clip, [(background, background_gain)])
    return Mixture(samples, gain, background_gain)


def gain_for_snr(clip: Waveform, background: Waveform, snr_db: float, over: LevelOver = "clip") -> float:
    """Return the factor that puts `background`, of the clip's shape, `snr_db` below the clip.

    Raises AudioError as `mix_at_snr` does.
    """
    where = find_part(clip, over)
    return gain_between(measure_level(clip[where]), measure_level(background[where]), snr_db)


def gain_between(clip_level: float, background_level: float, snr_db: float) -> float:
    """Return the factor that puts a background of one level `snr_db` below a clip of another.

    Raises AudioError when a level is not finite or counts as silent.
    """
    for name, level in (("clip", clip_level), ("background", background_level)):
        if not math.isfinite(level):
            raise AudioError(f"the {name} holds NaN or infinite samples; export its recording again from its source.")
        if level < LEAST_LEVEL:
            raise AudioError(f"the {name} is silent, so an SNR of {snr_db} dB cannot be reached; draw another stretch.")
    return clip_level / background_level * float(10 ** (-snr_db / 20))


def add_backgrounds(clip: Waveform, backgrounds: Sequence[tuple[Waveform, float]]) -> tuple[Waveform, float]:
    """Return clip + sum of factor * background, scaled down as a whole to within +-1, and that gain, 1 if not."""
    mixed = clip
    for background, factor in backgrounds:
        laid = background * np.float32(factor)
        laid += mixed
        mixed = laid
    highest = find_peak(mixed)
    return (mixed, 1.0) if highest <= 1 else (mixed / np.float32(highest), 1.0 / highest)


def sum_at_one_level(sounds: Sequence[Waveform]) -> Waveform:
    """Return the sum of sounds of one shape, each brought to the level of the first: a babble of voices.

    Raises AudioError when a sound is silent or not finite.
    """
    first = sounds[0]
    total = first.copy()
    for sound in sounds[1:]:
        total += sound * np.float32(gain_for_snr(first, sound, 0.0))
    return total


def find_part(clip: Waveform, over: LevelOver) -> NDArray[np.bool_] | slice:
    """Return where levels are measured: everywhere, or in the active part, as an index of (n_samples,)."""
    return find_active_part(clip) if over == "active" else slice(None)


def find_active_part(clip: Waveform) -> NDArray[np.bool_]:
    """Return which samples, (n_samples,), lie in frames of 10 ms within ACTIVE_RANGE_DB of the loudest one."""
    n_frames = -(-clip.size // FRAME_SAMPLES)
    padded = np.zeros(n_frames * FRAME_SAMPLES, dtype=np.float32)
    padded[: clip.size] = clip
    frames = padded.reshape(n_frames, FRAME_SAMPLES)
    energies = np.vecdot(frames, frames)
    return np.repeat(energies >= energies.max() * 10 ** (-ACTIVE_RANGE_DB / 10), FRAME_SAMPLES)[: clip.size]


def measure_level(samples: Waveform) -> float:
    """Return the root mean square of the samples, 0 for none; NaN or infinity where a sample is."""
    n_whole = samples.size - samples.size % BLOCK_SAMPLES
    blocks, rest = samples[:n_whole].reshape(-1, BLOCK_SAMPLES), samples[n_whole:]
    energy = float(np.add.reduce(np.vecdot(blocks, blocks), dtype=np.float64)) + float(np.vecdot(rest, rest))
    return math.sqrt(energy / max(samples.size, 1))


def find_peak(samples: Waveform) -> float:
    """Return the largest absolute sample, in two passes and no copy."""
    return max(float(np.maximum.reduce(samples)), -float(np.minimum.reduce(samples)))


def keep_in_range(samples: Waveform) -> Waveform:
    """Return the samples, lower as a whole where a peak would leave +-1."""
    highest = find_peak(samples)
    return samples if highest <= 1 else samples / np.float32(highest)
