"""Long recordings with known speech, laid out from clips: what rules for segments are tuned and tested on.

Clips of both labels follow each other over a background, with pauses between them. Every draw is keyed, so the same
clips make the same recordings. A clip's whole length counts as its label: what is silent inside a clip of speech is
counted as speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from listenwell.augment.mixing import gain_for_snr
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_waveform, rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.random_streams import stream

PAUSE_S = (0.3, 3.0)
SNR_DB = (0.0, 20.0)
CLIP_LEVEL = 0.05
TRUTH_STEP_S = 0.01
LEAST_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class LongRecording:
    """samples (n_samples,), 16 kHz, and where it is speech: (start_s, end_s), in order."""

    name: str
    samples: Waveform
    speech: tuple[tuple[float, float], ...]


def lay_out_recordings(
    clips: Sequence[Clip], bank: BackgroundBank, n_recordings: int, length_s: float, seed: int
) -> list[LongRecording]:
    """Return recordings of about length_s seconds, half of their clips speech, each over one background.

    The ratio of speech to background is uniform in dB over SNR_DB; clips are brought to one level.
    """
    return [lay_out_recording(clips, bank, length_s, seed, f"recording_{i}") for i in range(n_recordings)]


def lay_out_recording(
    clips: Sequence[Clip], bank: BackgroundBank, length_s: float, seed: int, name: str
) -> LongRecording:
    """Return one of them; seed and name decide it."""
    rng = stream(seed, "long recording", name)
    by_label = [[clip for clip in clips if (clip.label == "SPEECH") is is_speech] for is_speech in (True, False)]
    laid: list[tuple[int, Waveform, bool]] = []
    at = 0
    while at < length_s * SAMPLE_RATE_HZ:
        at += round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ)
        is_speech = bool(rng.random() < 0.5)
        of_label = by_label[not is_speech]
        samples = load_waveform(of_label[int(rng.integers(len(of_label)))])
        laid.append((at, samples * np.float32(CLIP_LEVEL / rms(samples)), is_speech))
        at += samples.size
    n_samples = at + round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ)
    signal = np.zeros(n_samples, dtype=np.float32)
    for start, samples, _ in laid:
        signal[start : start + samples.size] += samples
    if bank.entries:
        bed = bank.entries[int(rng.integers(len(bank.entries)))]
        noise = bank.load(bed.background_id, 0.0, n_samples / SAMPLE_RATE_HZ)[:n_samples]
        active = np.concatenate([samples for _, samples, _ in laid])
        under = np.resize(noise, active.size)
        if rms(under) > 0:
            signal += noise * np.float32(gain_for_snr(active, under, float(rng.uniform(*SNR_DB))))
    signal /= np.float32(max(1.0, float(np.abs(signal).max())))
    speech = tuple(
        (start / SAMPLE_RATE_HZ, (start + samples.size) / SAMPLE_RATE_HZ)
        for start, samples, is_speech in laid
        if is_speech
    )
    return LongRecording(name, signal, speech)


def mark_frames(stretches: Sequence[tuple[float, float]], duration_s: float) -> NDArray[np.bool_]:
    """Return for every 10 ms whether its middle lies in one of the stretches (start_s, end_s)."""
    middles = (np.arange(int(duration_s / TRUTH_STEP_S)) + 0.5) * TRUTH_STEP_S
    marked = np.zeros(middles.size, dtype=bool)
    for start_s, end_s in stretches:
        first, last = np.searchsorted(middles, [start_s, end_s])
        marked[first:last] = True
    return marked


def segment_f1(found: Sequence[tuple[float, float]], truth: Sequence[tuple[float, float]]) -> float:
    """Return F1 of segments: one found and one true segment match when their overlap is at least LEAST_OVERLAP of
    their union, each matched once, the best first."""
    pairs = sorted(
        (
            (_overlap(one, other), i, j)
            for i, one in enumerate(found)
            for j, other in enumerate(truth)
            if _overlap(one, other) >= LEAST_OVERLAP
        ),
        reverse=True,
    )
    matched: set[tuple[str, int]] = set()
    n_matched = 0
    for _, i, j in pairs:
        if ("found", i) not in matched and ("true", j) not in matched:
            matched |= {("found", i), ("true", j)}
            n_matched += 1
    total = len(found) + len(truth)
    return 2 * n_matched / total if total else 1.0


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared) / (max(one[1], other[1]) - min(one[0], other[0]))
