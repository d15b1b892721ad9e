"""Find sounds that are changed copies of each other, or hold one another: among thousands, in minutes.

Two steps over blocks of about two seconds. Searching: the wrapped peak of every block with every other, one small
transform a pair (`listenwell.data.whitened_correlation`). Deciding: the exact correlation of the few pairs that
stand out. A copy may differ in level, polarity, codec, bandwidth, shift and noise; benchmarks/leak_gate.py measures how
much of that each step survives. Copies played faster or at another pitch are not found.

The result does not depend on the number of threads. Memory: 16 kB a block for the search.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent, pcm_sha256
from listenwell.data.sounds import Sound
from listenwell.data.whitened_correlation import (
    BLOCK_SAMPLES,
    WRAP_BINS,
    Correlation,
    Spectrum,
    correlate,
    pad_spectrum,
    whiten,
    wrap,
    wrapped_peaks,
)
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress

CANDIDATE_PEAK = 0.065
"""Blocks with this wrapped peak or more are compared exactly: 1 pair of voices in 700, 1 of stationary noises in 50."""
LEAST_SHARPNESS = 13.0
"""From here on two blocks share sound. docs/leak-gate.md shows the sharpness of copies and of strangers."""
BLOCKS_COMPARED = 3
"""Exact comparisons for one pair of sounds; two long copies would otherwise be compared block by block."""
_BATCH = 64
_BLOCKS_KEPT = 256


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two sounds that share sound. shift_s: where the first one's start lies in the second one's time."""

    one: Sound
    other: Sound
    correlation: Correlation
    shift_s: float


@dataclass(frozen=True, slots=True, eq=False)
class SoundIndex:
    """Sounds, ready to be searched: M blocks, row m belonging to sounds[owners[m]], samples first[m] to last[m].

    pcm_sha256: of each sound, "" where it is silent or unreadable. unreadable: sound by index, and why.
    """

    sounds: tuple[Sound, ...]
    pcm_sha256: tuple[str, ...]
    unreadable: dict[int, str]
    wraps: Spectrum
    owners: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def keep(self, is_wanted: Callable[[Sound], bool]) -> "SoundIndex":
        """Return the same index with the blocks of the wanted sounds only."""
        rows = np.flatnonzero([is_wanted(self.sounds[owner]) for owner in self.owners])
        return replace(
            self, wraps=self.wraps[rows], owners=self.owners[rows], first=self.first[rows], last=self.last[rows]
        )


def index_sounds(
    sounds: Sequence[Sound], on_progress: OnProgress = ignore_progress, stage: str = "listening"
) -> SoundIndex:
    """Read every sound once. What cannot be read is noted, silence has no blocks."""
    hashes, unreadable = [], {}
    wraps, owners, edges = [], [], []
    for index, sound in enumerate(sounds):
        try:
            samples = sound.load()
        except AudioError as error:
            unreadable[index] = str(error)
            samples = np.zeros(0, dtype=np.float32)
        hashes.append("" if is_silent(samples) else pcm_sha256(samples))
        for first, last in _block_edges(samples):
            wraps.append(wrap(whiten(samples[first:last])))
            owners.append(index)
            edges.append((first, last))
        on_progress(stage, index + 1, len(sounds))
    bounds = np.array(edges, dtype=np.intp).reshape(-1, 2)
    return SoundIndex(
        tuple(sounds),
        tuple(hashes),
        unreadable,
        np.array(wraps, dtype=np.complex64).reshape(-1, WRAP_BINS),
        np.array(owners, dtype=np.intp),
        bounds[:, 0],
        bounds[:, 1],
    )


def _block_edges(samples: Waveform) -> Iterator[tuple[int, int]]:
    """Yield first and last sample of equal blocks, each at most BLOCK_SAMPLES long; silent ones are left out."""
    n_blocks = -(-len(samples) // BLOCK_SAMPLES)
    edges = [round(i * len(samples) / n_blocks) for i in range(n_blocks + 1)] if n_blocks else []
    for first, last in pairwise(edges):
        if not is_silent(samples[first:last]):
            yield first, last


def find_near_duplicates(
    one: SoundIndex,
    other: SoundIndex,
    on_progress: OnProgress = ignore_progress,
    stage: str = "comparing",
) -> list[NearDuplicate]:
    """Return the pairs of a sound of `one` and a sound of `other` that share sound, in the order of their indices.

    Pairs with equal pcm_sha256 are left out: their hash says more.
    """
    candidates = find_candidates(one, other, on_progress, stage)
    padded = functools.lru_cache(maxsize=_BLOCKS_KEPT)(_padded_block)
    found = []
    for done, ((i, j), rows) in enumerate(candidates.items(), start=1):
        correlations = [correlate(padded(one, a), padded(other, b)) for a, b in rows]
        best = max(range(len(rows)), key=lambda k: correlations[k].sharpness)
        if correlations[best].sharpness >= LEAST_SHARPNESS:
            a, b = rows[best]
            shift_s = correlations[best].lag_s + float(other.first[b] - one.first[a]) / SAMPLE_RATE_HZ
            found.append(NearDuplicate(one.sounds[i], other.sounds[j], correlations[best], shift_s))
        on_progress(f"{stage}, exactly", done, len(candidates))
    return found


def _padded_block(index: SoundIndex, row: int) -> Spectrum:
    samples = index.sounds[index.owners[row]].load()
    return pad_spectrum(whiten(samples[index.first[row] : index.last[row]]))


def find_candidates(
    one: SoundIndex,
    other: SoundIndex,
    on_progress: OnProgress = ignore_progress,
    stage: str = "comparing",
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return, by pair of sounds (their indices), the pairs of rows worth an exact comparison, best first."""
    peaks: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    n_rows = len(one.owners)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        searched = pool.map(lambda row: _stand_out(one.wraps[row], other.wraps), range(n_rows))
        for row, (rows, heights) in enumerate(searched):
            i = int(one.owners[row])
            for other_row, height in zip(rows.tolist(), heights.tolist(), strict=True):
                j = int(other.owners[other_row])
                if one.pcm_sha256[i] != other.pcm_sha256[j]:
                    peaks.setdefault((i, j), []).append((height, row, other_row))
            on_progress(stage, row + 1, n_rows)
    finally:
        pool.shutdown(cancel_futures=True)
    return {
        pair: [(a, b) for _, a, b in sorted(found, reverse=True)[:BLOCKS_COMPARED]]
        for pair, found in sorted(peaks.items())
    }


def _stand_out(wrap_of_one: Spectrum, wraps: Spectrum) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows of `wraps` (M, WRAP_BINS) whose wrapped peak reaches CANDIDATE_PEAK, and the peaks."""
    batches = [wraps[start : start + _BATCH] for start in range(0, len(wraps), _BATCH)]
    peaks = np.concatenate([wrapped_peaks(wrap_of_one, batch) for batch in batches] or [np.zeros(0, np.float32)])
    rows = np.flatnonzero(peaks >= CANDIDATE_PEAK)
    return rows, peaks[rows]
