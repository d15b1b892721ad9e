"""The background bank: stretches of noise recordings, read from disk when they are asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording
from listenwell.data.clip import Background
from listenwell.errors import AudioError


class BackgroundBank:
    """Backgrounds of one split; `load` returns any stretch of one of them."""

    def __init__(self, entries: Sequence[Background]) -> None:
        self.entries = tuple(sorted(entries, key=lambda background: background.background_id))
        self._paths: dict[str, Path] = {background.background_id: background.path for background in self.entries}
        self._durations_s = {background.background_id: background.duration_s for background in self.entries}

    def load(self, background_id: str, offset_s: float, duration_s: float) -> Waveform:
        """Return duration_s seconds from offset_s, shape (n_samples,); a shorter background is repeated."""
        if background_id not in self._paths:
            raise AudioError(f"background '{background_id}' is not in the bank; the plan was drawn for another one.")
        n_samples = round(duration_s * SAMPLE_RATE_HZ)
        if offset_s + duration_s <= self._durations_s[background_id]:
            return load_recording(self._paths[background_id], offset_s, duration_s)
        return np.resize(load_recording(self._paths[background_id]), n_samples)
