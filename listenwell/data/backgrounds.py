"""The background bank: stretches of noise, music and voices, read when they are asked for.

Stretches come straight from the recordings (a part of a 16 kHz PCM file is one seek and one read), or, where many are
read, from one memory-mapped file of all of them (listenwell.data.background_file). The bank of the training part may
hold its SPEECH clips as well, for babble.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording
from listenwell.data.clip import Background, Clip, background_hashes
from listenwell.errors import AudioError

SHORTEST_S = 0.01
STORED = "stored"
FADE_S = 0.02
"""A repeated background fades into itself over this long, or a quarter of it where it is shorter."""


class StoredSamples(Protocol):
    """Samples of backgrounds, ready at 16 kHz."""

    def read(self, background_id: str, first: int, n_samples: int) -> Waveform:
        """Return n_samples from sample `first` on, fewer where the background ends."""


class BackgroundBank:
    """Backgrounds of one split; `load` returns any stretch of one of them.

    talkers: SPEECH clips of the same split, which become backgrounds of kind "speech" of their own groups. stored:
    where samples of `entries` are read from instead of the recordings. Raises AudioError for a background below 10 ms.
    """

    def __init__(
        self, entries: Sequence[Background], talkers: Sequence[Clip] = (), stored: StoredSamples | None = None
    ) -> None:
        voices = [_as_background(clip) for clip in talkers if clip.label == "SPEECH"]
        self.entries = tuple(sorted([*entries, *voices], key=lambda background: background.background_id))
        self._entries = {background.background_id: background for background in self.entries}
        self._starts_s = {clip_background_id(clip): clip.start_s for clip in talkers}
        self.stored = stored
        for background in self.entries:
            if background.duration_s < SHORTEST_S:
                raise AudioError(
                    f"{background.path}: background '{background.background_id}' lasts {background.duration_s:g} s; at "
                    f"least {SHORTEST_S:g} s were expected, remove it from the table."
                )

    def load(self, background_id: str, offset_s: float, duration_s: float) -> Waveform:
        """Return duration_s seconds from offset_s, shape (n_samples,); a shorter background is repeated.

        Raises AudioError when the bank has no such background or its recording cannot be read.
        """
        if background_id not in self._entries:
            raise AudioError(f"background '{background_id}' is not in the bank; the plan was drawn for another one.")
        background = self._entries[background_id]
        n_samples = round(duration_s * SAMPLE_RATE_HZ)
        if offset_s + duration_s <= background.duration_s:
            return _fit(self._read(background, offset_s, duration_s), n_samples)
        first = round(offset_s * SAMPLE_RATE_HZ)
        return repeat_to(self._read(background, 0.0, background.duration_s), first + n_samples)[first:]

    def _read(self, background: Background, offset_s: float, duration_s: float) -> Waveform:
        if background.background_id in self._starts_s:
            return load_recording(background.path, self._starts_s[background.background_id] + offset_s, duration_s)
        if self.stored is not None:
            first = round(offset_s * SAMPLE_RATE_HZ)
            return self.stored.read(background.background_id, first, round(duration_s * SAMPLE_RATE_HZ))
        return load_recording(background.path, offset_s, duration_s)

    @property
    def hashes(self) -> dict[str, str]:
        """What identifies the bank's sound, by field: storing at 16 bit rounds recordings of another format."""
        stored = {STORED: "16 kHz, 16 bit"} if self.stored is not None else {}
        return background_hashes(self.entries) | stored


def _fit(samples: Waveform, n_samples: int) -> Waveform:
    """Exactly n_samples: resampling gives one less or more at times, which the last sample fills."""
    missing = n_samples - samples.size
    return np.pad(samples, (0, missing), mode="edge") if missing > 0 else samples[:n_samples]


def clip_background_id(clip: Clip) -> str:
    """The name of a clip among backgrounds."""
    return f"clip/{clip.clip_id}"


def _as_background(clip: Clip) -> Background:
    return Background(
        clip_background_id(clip), clip.path, clip.duration_s, "speech", clip.group, clip.corpus, clip.licence,
        clip.split, clip.pcm_sha256, clip.origin,
    )  # fmt: skip


def repeat_to(samples: Waveform, n_samples: int) -> Waveform:
    """Cut or repeat `samples` to n_samples. Each repetition is cross-faded into the next at equal power.

    Raises AudioError when there are no samples.
    """
    if samples.size == 0:
        raise AudioError("the background has no samples; remove it from the bank.")
    if samples.size >= n_samples:
        return samples[:n_samples]
    n_fade = min(round(FADE_S * SAMPLE_RATE_HZ), samples.size // 4)
    angle = (np.arange(n_fade, dtype=np.float32) + np.float32(0.5)) / np.float32(max(n_fade, 1)) * np.float32(np.pi / 2)
    seam = samples[samples.size - n_fade :] * np.cos(angle) + samples[:n_fade] * np.sin(angle)
    cycle = np.concatenate([seam, samples[n_fade : samples.size - n_fade]])
    n_more = n_samples - (samples.size - n_fade)
    return np.concatenate([samples[: samples.size - n_fade], np.resize(cycle, n_more)])
