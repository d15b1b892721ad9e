"""Find sounds that are changed copies of each other, or hold one another: among thousands, in minutes.

Clips and backgrounds are compared alike (`Sound`), in blocks of at most BLOCK_SAMPLES. A block is whitened by dividing
its spectrum by its own magnitude (the phase transform: Knapp & Carter 1976, "The generalized correlation method for
estimation of time delay"), softly, so that empty bands are not amplified: stationary noises, hums and voices then
correlate only as much as chance lets them, while a copy shows one sharp peak at its shift, whatever was done to its
level, band or codec. Two measures of two blocks:

    wrapped peak   both folded to WRAP_SAMPLES, so that one small transform gives every shift: quick, for searching
    correlation    the largest absolute value over all shifts, 1 for a copy, and its sharpness, the peak over the root
                   mean square of the correlation around it: exact, for deciding on the few pairs that stand out

A copy may differ in level, polarity, codec, bandwidth, shift and noise; benchmarks/leak_gate.py measures how much of
that each step survives. Copies played faster or at another pitch are not found. The result does not depend on the
number of threads. Memory: 16 kB a block for the search. Waveforms are float32, shape (n_samples,), 16 kHz.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent, load_recording, pcm_sha256
from listenwell.data.clip import ROOM, Background, Clip
from listenwell.data.tables import MISSING_VALUES
from listenwell.errors import AudioError, ManifestError
from listenwell.progress import OnProgress, ignore_progress

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
CANDIDATE_PEAK = 0.065
"""Blocks with this wrapped peak or more are compared exactly: 1 pair of voices in 700, 1 of stationary noises in 50."""
LEAST_SHARPNESS = 13.0
"""From here on two blocks share sound. docs/leak-gate.md shows the sharpness of copies and of strangers."""
BLOCKS_COMPARED = 3
"""Exact comparisons for one pair of sounds; two long copies would otherwise be compared block by block."""
_BATCH = 32
_BLOCKS_KEPT = 256

Spectrum = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip or a background of one part. label and recording are "" for a background, which is its own recording."""

    part: str
    sound_id: str
    is_background: bool
    path: Path
    start_s: float
    duration_s: float | None
    label: str
    group: str
    recording: str
    corpus: str
    origin: str
    channel: int | None = None

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return f"{'background' if self.is_background else 'clip'} '{self.sound_id}'"

    def load(self) -> Waveform:
        """Return the samples, shape (n_samples,), 16 kHz. Raises AudioError."""
        return load_recording(self.path, self.start_s, self.duration_s, self.channel)


def list_sounds(
    clips: Mapping[str, Sequence[Clip]], backgrounds: Mapping[str, Sequence[Background]]
) -> dict[str, list[Sound]]:
    """Return the sounds of every part, clips first; rooms are none. Raises ManifestError for one without a group."""
    sounds: dict[str, list[Sound]] = {part: [] for part in [*clips, *backgrounds]}
    for part, listed in sounds.items():
        listed += [
            Sound(
                part, clip.clip_id, False, clip.path, clip.start_s, clip.duration_s, clip.label, clip.group,
                clip.recording, clip.corpus, clip.origin, clip.channel,
            )
            for clip in clips.get(part, ())
        ]  # fmt: skip
        listed += [
            Sound(part, one.background_id, True, one.path, 0.0, None, "", one.group, "", one.corpus, one.origin)
            for one in backgrounds.get(part, ())
            if one.kind != ROOM
        ]
        for sound in listed:
            if str(sound.group).strip().lower() in MISSING_VALUES:
                raise ManifestError(
                    f"part '{part}': {sound.name} has no group (found {sound.group!r}), so nobody can tell whether "
                    "another part knows its speaker or source; fill in the group column."
                )
    return sounds


@dataclass(frozen=True, slots=True)
class Correlation:
    """How alike two blocks are. value: 0 to 1; sharpness: the peak over its surroundings.

    lag_s: where the first block's start lies in the second one's time.
    """

    value: float
    sharpness: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two sounds that share sound. shift_s: where the first one's start lies in the second one's time."""

    one: Sound
    other: Sound
    correlation: Correlation
    shift_s: float


@dataclass(frozen=True, slots=True, eq=False)
class SoundIndex:
    """Sounds, ready to be searched: M blocks, wraps (M, WRAP_BINS), each with its sound's index, first and last sample.

    pcm_sha256: of each sound, "" where it is silent or unreadable. unreadable: sound by index, and why.
    """

    sounds: tuple[Sound, ...]
    pcm_sha256: tuple[str, ...]
    unreadable: dict[int, str]
    wraps: Spectrum
    blocks: tuple[tuple[int, int, int], ...]

    def keep(self, is_wanted: Callable[[Sound], bool]) -> "SoundIndex":
        """Return the same index with the blocks of the wanted sounds only."""
        rows = [row for row, (owner, _, _) in enumerate(self.blocks) if is_wanted(self.sounds[owner])]
        return replace(self, wraps=self.wraps[rows], blocks=tuple(self.blocks[row] for row in rows))


def index_sounds(
    sounds: Sequence[Sound], on_progress: OnProgress = ignore_progress, stage: str = "listening"
) -> SoundIndex:
    """Read every sound once. What cannot be read is noted, silence has no blocks."""
    hashes, unreadable, wraps, blocks = list[str](), dict[int, str](), list[Spectrum](), list[tuple[int, int, int]]()
    with _one_thread_a_core() as pool:
        for index, (sha256, why, of_sound) in enumerate(pool.map(_index_sound, sounds)):
            hashes.append(sha256)
            if why:
                unreadable[index] = why
            for first, last, wrapped in of_sound:
                wraps.append(wrapped)
                blocks.append((index, first, last))
            on_progress(stage, index + 1, len(sounds))
    searchable = np.array(wraps, dtype=np.complex64).reshape(-1, WRAP_BINS)
    return SoundIndex(tuple(sounds), tuple(hashes), unreadable, searchable, tuple(blocks))


def _index_sound(sound: Sound) -> tuple[str, str, list[tuple[int, int, Spectrum]]]:
    """A sound's hash, why it cannot be read, if so, and of its blocks first and last sample and wrap."""
    try:
        samples = sound.load()
    except AudioError as error:
        return "", str(error), []
    blocks = [(first, last, wrap(whiten(samples[first:last]))) for first, last in _block_edges(samples)]
    return "" if is_silent(samples) else pcm_sha256(samples), "", blocks


@contextmanager
def _one_thread_a_core() -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread a core, in which torch starts no others; what has not begun is dropped at an error."""
    import torch  # here: whoever reads results imports this module, and need not wait for torch

    pool, n_threads = ThreadPoolExecutor(os.cpu_count()), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


def _block_edges(samples: Waveform) -> Iterator[tuple[int, int]]:
    """Yield first and last sample of equal blocks, each at most BLOCK_SAMPLES long; silent ones are left out."""
    n_blocks = -(-len(samples) // BLOCK_SAMPLES)
    edges = [round(i * len(samples) / n_blocks) for i in range(n_blocks + 1)] if n_blocks else []
    for first, last in pairwise(edges):
        if not is_silent(samples[first:last]):
            yield first, last


def find_near_duplicates(
    one: SoundIndex, other: SoundIndex, on_progress: OnProgress = ignore_progress, stage: str = "comparing"
) -> list[NearDuplicate]:
    """Return the pairs of a sound of `one` and a sound of `other` that share sound, in the order of their indices.

    Pairs with equal pcm_sha256 are left out: their hash says more.
    """
    candidates = find_candidates(one, other, on_progress, stage)
    padded = functools.lru_cache(maxsize=_BLOCKS_KEPT)(_padded_block)

    def find_sharpest(rows: Sequence[tuple[int, int]]) -> tuple[Correlation, tuple[int, int]]:
        correlations = [correlate(padded(one, a), padded(other, b)) for a, b in rows]
        best = max(range(len(rows)), key=lambda k: correlations[k].sharpness)
        return correlations[best], rows[best]

    duplicates = []
    with _one_thread_a_core() as pool:
        sharpest = pool.map(find_sharpest, candidates.values())
        for done, ((i, j), (correlation, (a, b))) in enumerate(zip(candidates, sharpest, strict=True), start=1):
            if correlation.sharpness >= LEAST_SHARPNESS:
                shift_s = correlation.lag_s + (other.blocks[b][1] - one.blocks[a][1]) / SAMPLE_RATE_HZ
                duplicates.append(NearDuplicate(one.sounds[i], other.sounds[j], correlation, shift_s))
            on_progress(f"{stage}, exactly", done, len(candidates))
    return duplicates


def _padded_block(index: SoundIndex, row: int) -> Spectrum:
    owner, first, last = index.blocks[row]
    return pad_spectrum(whiten(index.sounds[owner].load()[first:last]))


def find_candidates(
    one: SoundIndex, other: SoundIndex, on_progress: OnProgress = ignore_progress, stage: str = "comparing"
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return, by pair of sounds (their indices), the pairs of rows worth an exact comparison, best first."""
    peaks: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    n_rows = len(one.blocks)
    with _one_thread_a_core() as pool:
        searched = pool.map(lambda row: _stand_out(one.wraps[row], other.wraps), range(n_rows))
        for row, (rows, heights) in enumerate(searched):
            i = one.blocks[row][0]
            for other_row, height in zip(rows.tolist(), heights.tolist(), strict=True):
                j = other.blocks[other_row][0]
                if one.pcm_sha256[i] != other.pcm_sha256[j]:
                    peaks.setdefault((i, j), []).append((height, row, other_row))
            on_progress(stage, row + 1, n_rows)
    return {
        pair: [(a, b) for _, a, b in sorted(rows, reverse=True)[:BLOCKS_COMPARED]]
        for pair, rows in sorted(peaks.items())
    }


def _stand_out(wrap_of_one: Spectrum, wraps: Spectrum) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows of `wraps` (M, WRAP_BINS) whose wrapped peak reaches CANDIDATE_PEAK, and the peaks."""
    import torch

    conjugate, peaks = torch.from_numpy(wrap_of_one.conj()), np.zeros(len(wraps), np.float32)
    for first in range(0, len(wraps), _BATCH):
        others = torch.from_numpy(wraps[first : first + _BATCH])
        # torch's transforms take two thirds of the time of scipy's
        correlation = torch.fft.irfft(others * conjugate, WRAP_SAMPLES).numpy()
        peaks[first : first + _BATCH] = np.maximum(correlation.max(axis=1), -correlation.min(axis=1))
    rows = np.flatnonzero(peaks >= CANDIDATE_PEAK)
    return rows, peaks[rows]


# Arithmetic


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
