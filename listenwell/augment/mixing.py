"""Mix a background into a clip at a chosen signal-to-noise ratio.

Waveforms are mono float32, shape (n_samples,), 16 kHz. Levels are root mean square over the whole clip:
    SNR = 20 log10(rms(clip) / rms(background)).
A background shorter than the clip is repeated before its level is measured. The mixture is scaled down as a whole
when it would leave +-1, which changes no ratio; the gain is returned. Backgrounds: music and noise beds such as
MUSAN's (Snyder, Chen & Povey 2015, arXiv:1510.08484). Knows nothing of files or configs.
"""

from dataclasses import dataclass

import numpy as np

from listenwell.data.audio import Waveform, peak, rms
from listenwell.errors import AudioError


@dataclass(frozen=True, slots=True)
class Mixture:
    """samples = gain * (clip + scaled background), shape (n_samples,), within +-1."""

    samples: Waveform
    gain: float
    background_gain: float


def mix_at_snr(clip: Waveform, background: Waveform, snr_db: float) -> Mixture:
    """Return clip + background at `snr_db`; the background is cut or repeated to the clip's length.

    Raises AudioError when clip or background is silent: no ratio to silence exists.
    """
    background = repeat_to(background, clip.size)
    clip_rms, background_rms = rms(clip), rms(background)
    if clip_rms == 0 or background_rms == 0:
        silent = "clip" if clip_rms == 0 else "background"
        raise AudioError(f"the {silent} is silent, so an SNR of {snr_db} dB cannot be reached; draw another stretch.")
    background_gain = clip_rms / background_rms * 10 ** (-snr_db / 20)
    mixed = clip + background * np.float32(background_gain)
    gain = 1.0 / max(1.0, peak(mixed))
    return Mixture(mixed * np.float32(gain), gain, background_gain)


def repeat_to(background: Waveform, n_samples: int) -> Waveform:
    """Cut or repeat `background` to n_samples. Raises AudioError when it is empty."""
    if background.size == 0:
        raise AudioError("the background has no samples; remove it from the bank.")
    return np.resize(background, n_samples) if background.size < n_samples else background[:n_samples]
