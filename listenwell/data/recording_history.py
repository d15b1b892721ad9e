"""Recording histories: what recorder, line and format did to a clip, drawn alike for speech and for other sounds.

A history says nothing about the content: where the band ends, how loud the clip is, how long, how much silence
surrounds the sound, how loud the noise floor is. Recordings differ in all of them by origin (telephone prompts end at
4 kHz, game effects at 20 kHz), so a classifier could read the origin instead of the sound. Here the history of every
clip is drawn from one distribution for both classes and then imposed:

    content -> 50 Hz high-pass -> fades -> silence around -> noise floor -> low-pass at the cut-off -> level -> 16 bit.

Nothing is invented above a source's own band: a clip's cut-off never exceeds its source's ceiling, and the class with
the narrower sources dictates how many clips of *both* classes get a low cut-off. Draws are stratified (one value in
each n-th of the distribution), so two classes have the same distribution and not only the same expectation.

Waveforms are mono, shape (n_samples,), 16 kHz, full scale +-1. Levels are root mean square over the whole clip in
dB re full scale. Knows nothing of files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from listenwell.data.audio import SAMPLE_RATE_HZ

Samples = NDArray[np.float64]

# Cut-off bands: a telephone's, what 11 kHz files carry, the rest. Below 3 kHz speech becomes a different task, and
# above 7.65 kHz the low-pass has no room left before half the sample rate.
CUT_OFF_BANDS_HZ = ((3000.0, 3650.0), (3650.0, 5050.0), (5050.0, 7650.0))
LEAST_BAND_SHARES = (0.2, 0.15)
# A file sampled at r carries a usable band up to about 0.46 r; its anti-alias filter has the rest.
USABLE_BAND = 0.46
DURATION_S = (1.0, 2.0)
LEVEL_DB = (-40.0, -20.0)
FLOOR_BELOW_LEVEL_DB = (32.0, 50.0)
EDGE_SILENCE_S = (0.02, 0.30)
NO_EDGE_SILENCE_SHARE = 0.25

PEAK_LIMIT = 0.99
HIGH_PASS_HZ = 50.0
FADE_S = 0.005
GAP_S = (0.03, 0.12)
# 20 ms frames that lie this far below the loudest count as silence at the edges of a sound.
SILENCE_BELOW_LOUDEST_DB = 35.0
FRAME_S = 0.01
QUIETEST_CUT_DB = 3.0
CUT_SEARCH_S = 0.3
LOW_PASS_TAPS = 255
LOW_PASS_STOP_DB = 80.0


@dataclass(frozen=True, slots=True)
class RecordingHistory:
    """What happened to one clip. duration_s is the whole clip, both silences included."""

    cut_off_hz: float
    level_db: float
    floor_db: float
    duration_s: float
    leading_s: float
    trailing_s: float

    @property
    def n_content(self) -> int:
        """Samples of sound between the silences."""
        return count_samples(self.duration_s) - count_samples(self.leading_s) - count_samples(self.trailing_s)


def source_ceiling_hz(source_rate_hz: int) -> float:
    """Return the highest cut-off that a recording of this sample rate can honestly be given."""
    return min(CUT_OFF_BANDS_HZ[-1][1], USABLE_BAND * source_rate_hz)


def share_cut_off_bands(ceilings_by_class_hz: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return the share of clips in each cut-off band that every class can meet, given its sources' ceilings.

    A band gets at least the share of clips that cannot go above it, in the class that has most of them.
    """
    shares: list[float] = []
    for (_, upper), least in zip(CUT_OFF_BANDS_HZ, LEAST_BAND_SHARES, strict=False):
        bound = max(np.mean(np.asarray(ceilings) < upper + 50) for ceilings in ceilings_by_class_hz.values())
        shares.append(min(max(least, float(bound) - sum(shares)), 1 - sum(shares)))
    return (*shares, 1 - sum(shares))


def draw_histories(
    ceilings_hz: Sequence[float], band_shares: Sequence[float], generator: np.random.Generator
) -> list[RecordingHistory]:
    """Return one history per clip of one class, cut-offs at most at each clip's ceiling."""
    n = len(ceilings_hz)
    level_db = _spread(LEVEL_DB, n, generator)
    below_db = _spread(FLOOR_BELOW_LEVEL_DB, n, generator)
    duration_s = _spread(DURATION_S, n, generator)
    leading_s, trailing_s = (_edge_silence(_quantiles(n, generator)) for _ in range(2))
    cut_offs_hz = _assign_cut_offs(np.asarray(ceilings_hz), band_shares, generator)
    return [
        RecordingHistory(*(float(value) for value in row))
        for row in zip(cut_offs_hz, level_db, level_db - below_db, duration_s, leading_s, trailing_s, strict=True)
    ]


def _assign_cut_offs(ceilings_hz: Samples, band_shares: Sequence[float], generator: np.random.Generator) -> Samples:
    """Deal the stratified cut-offs out to the clips, the clips with the lowest ceilings first."""
    quantiles = np.sort(_quantiles(len(ceilings_hz), generator))
    edges = np.concatenate([[0.0], np.cumsum(band_shares)])
    edges_hz = [CUT_OFF_BANDS_HZ[0][0], *(upper for _, upper in CUT_OFF_BANDS_HZ)]
    left = list(np.interp(quantiles, edges, edges_hz))
    cut_offs_hz = np.empty(len(ceilings_hz))
    for clip in np.lexsort((generator.random(len(ceilings_hz)), ceilings_hz)):
        eligible = int(np.searchsorted(left, ceilings_hz[clip], side="right"))
        # Rounding of the shares can leave one clip without a cut-off below its ceiling: it gets its ceiling.
        chosen = left.pop(int(generator.integers(eligible))) if eligible else left.pop(0)
        cut_offs_hz[clip] = min(chosen, ceilings_hz[clip])
    return cut_offs_hz


def _quantiles(n: int, generator: np.random.Generator) -> Samples:
    """Return n numbers in [0, 1), one in each n-th, in random order."""
    return (generator.permutation(n) + generator.random(n)) / n


def _spread(bounds: tuple[float, float], n: int, generator: np.random.Generator) -> Samples:
    return bounds[0] + (bounds[1] - bounds[0]) * _quantiles(n, generator)


def _edge_silence(quantiles: Samples) -> Samples:
    """None for a quarter of the clips, otherwise log-uniform."""
    position = np.clip((quantiles - NO_EDGE_SILENCE_SHARE) / (1 - NO_EDGE_SILENCE_SHARE), 0, 1)
    shortest, longest = EDGE_SILENCE_S
    return np.where(quantiles < NO_EDGE_SILENCE_SHARE, 0.0, shortest * (longest / shortest) ** position)


def impose_history(content: Samples, history: RecordingHistory, generator: np.random.Generator) -> NDArray[np.int16]:
    """Return the clip of `content` (shape (history.n_content,)) with this `history`, as 16-bit samples.

    The level is lower than drawn only where the peak would pass 0.99 of full scale. Raises ValueError when the
    content is silent.
    """
    sounding = _fade(_high_pass(content - content.mean()))
    clip = np.concatenate(
        [np.zeros(count_samples(history.leading_s)), sounding, np.zeros(count_samples(history.trailing_s))]
    )
    clip = scale_to_level(_low_pass(clip, history.cut_off_hz), history.level_db)
    floor = _low_pass(generator.standard_normal(len(clip)), history.cut_off_hz)
    clip = clip + scale_to_level(floor, history.floor_db)
    # What is left of rumble has a mean over a second or two, and rumbling is what engines do: out with it.
    return quantise(scale_to_level(clip - clip.mean(), history.level_db), generator)


def scale_to_level(samples: Samples, level_db: float) -> Samples:
    """Return the samples at an RMS of `level_db`, lower where the peak would pass the limit. Silence: ValueError."""
    loudness = float(np.sqrt(np.mean(np.square(samples))))
    if loudness == 0.0:
        raise ValueError("a silent waveform has no level")
    gain = min(10 ** (level_db / 20) / loudness, PEAK_LIMIT / float(np.max(np.abs(samples))))
    return samples * gain


def quantise(samples: Samples, generator: np.random.Generator) -> NDArray[np.int16]:
    """Round to 16 bit with triangular dither (Lipshitz, Wannamaker & Vanderkooy 1992), which hides coarser steps."""
    dither = generator.random(len(samples)) - generator.random(len(samples))
    return np.clip(np.rint(samples * 32767 + dither), -32767, 32767).astype(np.int16)


def cut_content(takes: Sequence[Samples], n_samples: int, position: float, generator: np.random.Generator) -> Samples:
    """Return `n_samples` of sound that begins and ends with sound, and holds what the recording is of.

    takes[0] is the recording; when it is shorter than asked, the further takes (of the same speaker or source) follow
    after short gaps, round and round. A cut is at most QUIETEST_CUT_DB below the loudest one of its length: half a
    second of voice in a noisy room must not give a clip of the room. `position` in [0, 1] says where among those
    cuts to look.
    """
    stream = takes[0] if len(takes[0]) >= n_samples + count_samples(FRAME_S) else _join(takes, n_samples, generator)
    starts = _loud_starts(stream, n_samples)
    nearest = starts[round(position * (len(starts) - 1))]
    tried = starts[np.abs(starts - nearest) <= count_samples(CUT_SEARCH_S)]
    tried = tried[np.unique(np.linspace(0, len(tried) - 1, 15).astype(int))]
    return min((stream[start : start + n_samples] for start in tried), key=_edge_silence_samples)


def _loud_starts(samples: Samples, n_samples: int) -> NDArray[np.intp]:
    """Starts, every 10 ms, of the stretches of n_samples within QUIETEST_CUT_DB of the loudest of them."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(_high_pass(samples)))])
    starts = np.arange(0, len(samples) - n_samples + 1, count_samples(FRAME_S))
    energies = energy[starts + n_samples] - energy[starts]
    is_loud = energies >= energies.max() * 10 ** (-QUIETEST_CUT_DB / 10)
    return np.asarray(starts[is_loud])


def _join(takes: Sequence[Samples], n_samples: int, generator: np.random.Generator) -> Samples:
    """Return takes in a row, a gap between, until half as long again as asked."""
    pieces: list[Samples] = []
    taken = 0
    while sum(map(len, pieces)) < 1.5 * n_samples:
        pieces += [takes[taken % len(takes)], np.zeros(count_samples(float(generator.uniform(*GAP_S))))]
        taken += 1
    return np.concatenate(pieces[:-1] if sum(map(len, pieces[:-1])) >= n_samples else pieces)


def _edge_silence_samples(samples: Samples) -> int:
    first, last = active_span(samples)
    return first + len(samples) - last


def active_span(samples: Samples) -> tuple[int, int]:
    """Return (first, end) of the sound between the silences at both edges, to a frame of 10 ms; (0, 0) if silent."""
    levels = frame_levels_db(samples)
    if not len(levels) or not np.isfinite(levels.max()):
        return 0, 0
    loud = np.flatnonzero(levels > levels.max() - SILENCE_BELOW_LOUDEST_DB)
    frame = count_samples(FRAME_S)
    return int(loud[0]) * frame, min(len(samples), (int(loud[-1]) + 1) * frame)


def trim_recording(samples: Samples) -> Samples:
    """Return a whole recording without the silence *or the room noise* around the sound; empty if silent.

    A reader's room can lie less than 35 dB below the voice. So the threshold rises to 8 dB above the quietest tenth of
    the frames, but never to less than 20 dB below the loudest: a steady sound is kept whole.
    """
    levels = frame_levels_db(samples)
    if not len(levels) or not np.isfinite(levels.max()):
        return samples[:0]
    above_room_db = float(np.quantile(levels, 0.1)) + 8
    loudest_db = float(levels.max())
    threshold_db = max(loudest_db - SILENCE_BELOW_LOUDEST_DB, min(above_room_db, loudest_db - 20))
    loud = np.flatnonzero(levels > threshold_db)
    frame = count_samples(FRAME_S)
    return samples[int(loud[0]) * frame : (int(loud[-1]) + 1) * frame]


def frame_levels_db(samples: Samples) -> Samples:
    """Return the level of each frame of 10 ms, the last one padded with zeros; -inf for silence."""
    frame = count_samples(FRAME_S)
    padded = np.pad(np.asarray(samples, dtype=np.float64), (0, -len(samples) % frame))
    power = np.mean(np.square(padded.reshape(-1, frame)), axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(power))


def count_samples(duration_s: float) -> int:
    """Return the nearest whole number of samples."""
    return round(duration_s * SAMPLE_RATE_HZ)


def _fade(samples: Samples) -> Samples:
    n = min(count_samples(FADE_S), len(samples) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)
    return np.concatenate([samples[:n] * ramp, samples[n : len(samples) - n], samples[len(samples) - n :] * ramp[::-1]])


def _high_pass(samples: Samples) -> Samples:
    """Second-order Butterworth, which takes out what is left of mains hum's fundamental and of drift."""
    sections = signal.butter(2, HIGH_PASS_HZ, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(signal.sosfilt(sections, samples))


def _low_pass(samples: Samples, cut_off_hz: float) -> Samples:
    """Linear-phase FIR without delay; nothing is left above the cut-off."""
    taps = _low_pass_taps(round(cut_off_hz))
    return np.asarray(signal.oaconvolve(samples, taps, mode="same")) if len(samples) >= len(taps) else samples


@lru_cache(maxsize=512)
def _low_pass_taps(cut_off_hz: int) -> Samples:
    beta = signal.kaiser_beta(LOW_PASS_STOP_DB)
    # Width of the slope of a Kaiser-windowed filter: the inverse of scipy.signal.kaiserord.
    transition_hz = (LOW_PASS_STOP_DB - 7.95) * SAMPLE_RATE_HZ / (2.285 * 2 * np.pi * (LOW_PASS_TAPS - 1))
    middle_hz = cut_off_hz - transition_hz / 2
    return np.asarray(signal.firwin(LOW_PASS_TAPS, middle_hz, window=("kaiser", beta), fs=SAMPLE_RATE_HZ))
