"""Levels and full scale: how loud a waveform is, and keeping it within +-1.

Waveforms: mono float32 (n_samples,), 16 kHz. Levels are root mean squares, full scale = 1.
"""

import math

import numpy as np

from listenwell.data.audio import Waveform

BLOCK_SAMPLES = 4096
"""Squares are summed in float32 within a block and in float64 over blocks: one pass, 1e-6 of the exact sum, and too
short a product for BLAS to divide among threads, whose number would change the last bit."""


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
