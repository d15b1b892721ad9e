"""Several channels become one: their mean, or one of them.

The mean of channels in antiphase is silence. Where it lies 20 dB or more below the loudest channel, that one is taken
instead, and `note` says so. This is decided for every tenth of a second by all that came up to its end, so it does not
depend on how a recording comes in blocks. Frames are float32 (n_frames, n_channels), waveforms (n_frames,).
"""

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import AudioError

ANTIPHASE_POWER = 0.01
"""Power of the mean over that of the loudest channel at which the mean is given up: -20 dB."""
STEP_S = 0.1


class Downmix:
    """Mixes one recording, block by block; what is short of a step comes with the next block, or with `flush`."""

    def __init__(self, name: str, rate_hz: float, channel: int | None = None) -> None:
        """channel: the one to take, from 0; None is the mean."""
        self.note = ""
        self._name, self._channel, self._n_step = name, channel, max(1, round(STEP_S * rate_hz))
        self._rest: NDArray[np.float32] | None = None
        self._powers = np.zeros(0)

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
        frames = frames if self._rest is None else np.concatenate([self._rest, frames])
        n_whole = len(frames) // self._n_step * self._n_step
        self._rest = frames[n_whole:]
        return self._mix_steps(frames[:n_whole], self._n_step)

    def flush(self) -> NDArray[np.float32]:
        """Return the waveform of what is left at the end."""
        rest, self._rest = self._rest, None
        return np.empty(0, dtype=np.float32) if rest is None or not len(rest) else self._mix_steps(rest, len(rest))

    def _mix_steps(self, frames: NDArray[np.float32], n_step: int) -> NDArray[np.float32]:
        """The waveform of whole steps of n_step frames."""
        n_channels = frames.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.asarray(frames.mean(axis=1, dtype=np.float32))
            # of every step and all before it: the power of the mean, then that of each channel
            by_step, of_mean = frames.reshape(-1, n_step, n_channels), mean.reshape(-1, n_step)
            powers = np.column_stack(
                [np.einsum("si,si->s", of_mean, of_mean), np.einsum("sic,sic->sc", by_step, by_step)]
            )
            powers = np.cumsum(powers, axis=0, dtype=np.float64) + (self._powers if self._powers.size else 0.0)
            loudest = powers[:, 1:].max(axis=1, initial=0.0)
            cancels = (loudest > 0) & np.isfinite(loudest) & (powers[:, 0] <= ANTIPHASE_POWER * loudest)
        self._powers = powers[-1] if len(powers) else self._powers
        if not cancels.any():
            return mean
        taken = np.repeat(powers[:, 1:].argmax(axis=1), n_step)
        names = " and ".join(map(str, sorted({*taken[np.repeat(cancels, n_step)].tolist()})))
        self.note = f"its {n_channels} channels cancel each other (antiphase), so channel {names} was taken alone"
        alone = np.take_along_axis(frames, taken[:, None], axis=1)[:, 0]
        return np.where(np.repeat(cancels, n_step), alone, mean)
