"""Several channels become one: their mean, or one of them.

The mean of channels in antiphase is silence. Where it lies 20 dB or more below the loudest channel, that one is taken
instead, from there on, and `note` says so. Frames are float32 (n_frames, n_channels), waveforms (n_frames,).
"""

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import AudioError

ANTIPHASE_POWER = 0.01
"""Power of the mean over that of the loudest channel at which the mean is given up: -20 dB."""


class Downmix:
    """Mixes one recording, block by block."""

    def __init__(self, name: str, channel: int | None = None) -> None:
        """channel: the one to take, from 0; None is the mean."""
        self.note = ""
        self._name, self._channel, self._powers = name, channel, np.zeros(1)

    def mix(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the waveform of the next frames. Raises AudioError for a channel that there is not."""
        n_channels = frames.shape[1]
        if self._channel is not None:
            if not 0 <= self._channel < n_channels:
                raise AudioError(
                    f"{self._name}: has no channel {self._channel}, only {n_channels} (numbered from 0); give another "
                    "channel, or mean."
                )
            return frames[:, self._channel]
        if n_channels == 1:
            return frames[:, 0]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.asarray(frames.mean(axis=1, dtype=np.float32))
            channels = np.square(frames, dtype=np.float64).sum(axis=0)
            # of the blocks so far: the mean's power, then that of each channel
            self._powers = self._powers + np.array([np.square(mean, dtype=np.float64).sum(), *channels])
            loudest = int(np.argmax(self._powers[1:]))
            is_antiphase = (
                self._powers[1 + loudest] > 0 and self._powers[0] <= ANTIPHASE_POWER * self._powers[1 + loudest]
            )
        if not is_antiphase:
            return mean
        self._channel = loudest
        self.note = f"its {n_channels} channels cancel each other (antiphase), so channel {loudest} was taken alone"
        return frames[:, loudest]
