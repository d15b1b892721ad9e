"""The background bank: stretches of noise, music and voices, read from their recordings when they are asked for.

A part of a 16 kHz PCM file is one seek and one read. The bank of the training part may hold its SPEECH clips as well,
for babble.
"""

from collections.abc import Sequence

import numpy as np

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording
from listenwell.data.clip import Background, Clip, background_hashes
from listenwell.errors import AudioError

SHORTEST_S = 0.01
FADE_S = 0.02
"""A repeated background fades into itself over this long, or a quarter of it where it is shorter."""


class BackgroundBank:
    """Backgrounds of one split; `load` returns any stretch of one of them.

    speakers: SPEECH clips of the same split, which become backgrounds of kind "speech" of their own groups. Raises
    AudioError for a background below 10 ms.
    """

    def __init__(self, entries: Sequence[Background], speakers: Sequence[Clip] = ()) -> None:
        spoken = [
            Background(
                clip_background_id(clip), clip.path, clip.duration_s, "speech", clip.group, clip.corpus, clip.licence,
                clip.split, clip.pcm_sha256, clip.origin,
            )
            for clip in speakers
            if clip.label == "SPEECH"
        ]  # fmt: skip
        self.entries = tuple(sorted([*entries, *spoken], key=lambda background: background.background_id))
        self._entries = {background.background_id: background for background in self.entries}
        self._starts_s = {clip_background_id(clip): clip.start_s for clip in speakers}
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
        start_s = self._starts_s.get(background.background_id, 0.0)
        return load_recording(background.path, start_s + offset_s, duration_s)

    @property
    def hashes(self) -> dict[str, str]:
        """What identifies the bank's sound, by field."""
        return background_hashes(self.entries)


def _fit(samples: Waveform, n_samples: int) -> Waveform:
    """Exactly n_samples: resampling gives one less or more at times, which the last sample fills."""
    missing = n_samples - samples.size
    return np.pad(samples, (0, missing), mode="edge") if missing > 0 else samples[:n_samples]


def clip_background_id(clip: Clip) -> str:
    """The name of a clip among backgrounds."""
    return f"clip/{clip.clip_id}"


def repeat_to(samples: Waveform, n_samples: int) -> Waveform:
    """Cut or repeat `samples` to n_samples. Each repetition is cross-faded into the next at equal power."""
    if samples.size >= n_samples:
        return samples[:n_samples]
    n_fade = min(round(FADE_S * SAMPLE_RATE_HZ), samples.size // 4)
    angle = (np.arange(n_fade, dtype=np.float32) + np.float32(0.5)) / np.float32(max(n_fade, 1)) * np.float32(np.pi / 2)
    seam = samples[samples.size - n_fade :] * np.cos(angle) + samples[:n_fade] * np.sin(angle)
    cycle = np.concatenate([seam, samples[n_fade : samples.size - n_fade]])
    n_more = n_samples - (samples.size - n_fade)
    return np.concatenate([samples[: samples.size - n_fade], np.resize(cycle, n_more)])
