"""Whitened normalised cross-correlation: is one stretch of sound a changed copy of another?

A waveform is whitened by dividing its spectrum by its own magnitude (the phase transform: Knapp & Carter 1976, "The
generalized correlation method for estimation of time delay"), softly, so that empty bands are not amplified. Stationary
noises, hums and voices then correlate only as much as chance lets them, while a copy shows one sharp peak at its shift,
whatever was done to its level, band or codec. Nothing here knows of files.

A block is at most BLOCK_SAMPLES long, float32, shape (n_samples,), 16 kHz. Two measures of two blocks:

    wrapped peak   both folded to WRAP_SAMPLES, so that one small transform gives every shift: quick, for searching
    correlation    the largest absolute value over all shifts, 1 for a copy, and its sharpness, the peak over the root
                   mean square of the correlation around it: exact, for deciding
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform

BLOCK_SAMPLES = 32_768
WRAP_SAMPLES = 4_096
WRAP_BINS = WRAP_SAMPLES // 2 + 1
BAND_HZ = (150.0, 7_600.0)
FLOOR_PERCENTILE = 75.0
"""The magnitude above which a quarter of the band lies; a telephone clip fills less than half of the band."""
TAPER_SAMPLES = 160
"""10 ms at both ends: the step where a sound was cut is a click, and all clicks are alike."""
LIMIT_RMS = 4.0
"""Whitened samples are limited to this many root mean squares, so that one click does not outweigh all else."""
NEAR_SAMPLES, FAR_SAMPLES = 16, 800
"""The surroundings of a peak: from 1 to 50 ms on both sides."""

Spectrum = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """How alike two blocks are. value: 0 to 1; sharpness: the peak over its surroundings.

    lag_s: where the first block's start lies in the second one's time.
    """

    value: float
    sharpness: float
    lag_s: float


def whiten(block: Waveform) -> Waveform:
    """Return the whitened block, shape as given, of energy 1; all zeros where there is no sound in the band."""
    n_fft = scipy.fft.next_fast_len(2 * len(block), real=True)
    spectrum = scipy.fft.rfft(_taper(block), n_fft)
    frequencies_hz = np.arange(len(spectrum)) * (SAMPLE_RATE_HZ / n_fft)
    in_band = (frequencies_hz >= BAND_HZ[0]) & (frequencies_hz <= BAND_HZ[1])
    magnitude = np.abs(spectrum)
    floor = np.percentile(magnitude[in_band], FLOOR_PERCENTILE) if in_band.any() else 0.0
    if floor <= 0:
        return np.zeros_like(block)
    white = scipy.fft.irfft(np.where(in_band, spectrum / (magnitude + floor), 0), n_fft)[: len(block)]
    limit = LIMIT_RMS * np.sqrt(np.mean(np.square(white)))
    limited = np.clip(white, -limit, limit)
    return np.asarray(limited / np.linalg.norm(limited), dtype=np.float32)


def _taper(block: Waveform) -> Waveform:
    n_taper = min(TAPER_SAMPLES, len(block) // 4)
    rise = np.sin(np.pi / 2 * (np.arange(n_taper) + 0.5) / max(n_taper, 1)) ** 2
    window = np.ones(len(block))
    window[:n_taper] = rise
    window[len(block) - n_taper :] = rise[::-1]
    return (block * window).astype(np.float32)


def wrap(white: Waveform) -> Spectrum:
    """Return the spectrum, shape (WRAP_BINS,), of a whitened block folded to WRAP_SAMPLES.

    It is scaled so that the wrapped peak of two unrelated blocks has the same distribution whatever their kind: a
    sound whose energy is crowded into a moment or a band has fewer independent values, and by chance correlates
    more.
    """
    folded = np.zeros(-(-len(white) // WRAP_SAMPLES) * WRAP_SAMPLES, dtype=np.float32)
    folded[: len(white)] = white
    folded = folded.reshape(-1, WRAP_SAMPLES).sum(axis=0)
    energy = float(np.sum(np.square(folded)))
    if energy == 0:
        return np.zeros(WRAP_BINS, dtype=np.complex64)
    spectrum = scipy.fft.rfft(folded / np.sqrt(energy))
    in_time = _crowding(np.square(folded).reshape(-1, 16).sum(axis=1))
    in_band = _crowding(np.square(np.abs(spectrum[:-1])).reshape(-1, 8).sum(axis=1))
    scaled: Spectrum = (spectrum / (in_time * in_band) ** 0.25).astype(np.complex64)
    return scaled


def _crowding(energies: NDArray[np.floating]) -> float:
    """1 for energy spread evenly over the cells, their number for all of it in one."""
    return float(len(energies) * np.sum(np.square(energies)) / np.sum(energies) ** 2)


def wrapped_peaks(one: Spectrum, others: Spectrum) -> NDArray[np.float32]:
    """Return the wrapped peak of `one` (WRAP_BINS,) with each of `others` (M, WRAP_BINS), shape (M,)."""
    correlation = scipy.fft.irfft(others * one.conj(), WRAP_SAMPLES, axis=1, overwrite_x=True)
    peaks: NDArray[np.float32] = np.maximum(correlation.max(axis=1), -correlation.min(axis=1))
    return peaks


def pad_spectrum(white: Waveform) -> Spectrum:
    """Return the spectrum of a whitened block padded to twice BLOCK_SAMPLES, what `correlate` takes."""
    spectrum: Spectrum = scipy.fft.rfft(white, 2 * BLOCK_SAMPLES)
    return spectrum


def correlate(one: Spectrum, other: Spectrum) -> Correlation:
    """Return the correlation of two whitened blocks at its best shift; both as `pad_spectrum` gives them."""
    correlation = np.abs(scipy.fft.irfft(other * one.conj(), 2 * BLOCK_SAMPLES, overwrite_x=True))
    lag = int(correlation.argmax())
    around = np.r_[lag - FAR_SAMPLES : lag - NEAR_SAMPLES, lag + NEAR_SAMPLES + 1 : lag + FAR_SAMPLES + 1]
    surroundings = float(np.sqrt(np.mean(np.square(np.take(correlation, around, mode="wrap")))))
    value = float(correlation[lag])
    signed_lag = lag if lag < BLOCK_SAMPLES else lag - 2 * BLOCK_SAMPLES
    return Correlation(value, value / surroundings if surroundings else 0.0, signed_lag / SAMPLE_RATE_HZ)
