"""From a waveform to the spectrogram the model gets: the one road of training, scoring and detection.

    samples -> padding of short clips -> log-mel -> masks (training only)
A Whisper-style audio encoder turns 40 ms into one token, and a 20 ms clip into none. A clip shorter than `minimum_s` is
placed in `minimum_s` of faint noise (or zeros); the noise is one fixed array, so what the model gets is a pure function
of the clip's samples.

The log-mel spectrogram equals WhisperFeatureExtractor's on the clip's own frames. Whisper (Radford et al. 2022,
arXiv:2212.04356) pads every clip to 30 s and takes a 400-point periodic Hann STFT every 160 samples (10 ms), mel power,
log10, a floor 8 below the clip's maximum, then (x + 4) / 4. Here the STFT stops just after the clip: 640 zeros (40 ms)
stand for the 30 s of silence, so the last frame sees zeros and not a reflection of the clip's end, and the few frames
after it (the margin, which the encoder's convolutions look into) are what the padded spectrogram holds there.

Waveforms: mono float32 (n_samples,), 16 kHz. F mel bins. Knows nothing of torch, so that processes which prepare clips
start fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field

from listenwell.augment.spec_augment import Masks, apply_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.errors import AudioError, ModelError
from listenwell.random_streams import stream
from listenwell.section import Section

WINDOW_LENGTH = 400
HOP_LENGTH = 160
MARGIN_FRAMES = 3
MAXIMUM_S = 30.0
_POWER_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH)).astype(np.float32)


class ShortClipConfig(Section):
    """How clips shorter than `minimum_s` are padded, the same in training, scoring and detection."""

    minimum_s: float = Field(0.6, ge=0.04, le=30.0)
    """Clips shorter than this many seconds are padded to it; 0.04 s is one audio token."""
    placement: Literal["centre", "start"] = "centre"
    """Where the clip lies inside the padded stretch."""
    fill: Literal["noise", "zeros"] = "noise"
    """What surrounds the clip."""
    fill_level_db: float = Field(-60.0, ge=-120.0, le=0.0)
    """Standard deviation of the noise relative to the clip's peak, in dB."""


@dataclass(frozen=True, slots=True)
class LogMel:
    """features: float32 (F, n_frames + MARGIN_FRAMES), of which the first n_frames are the clip."""

    features: NDArray[np.float32]
    n_frames: int

    @property
    def floor(self) -> float:
        """The value of silence in this clip: every padded frame of the 30 s spectrogram holds it."""
        return float(self.features.max() - _DYNAMIC_RANGE / 4)


def extract_features(
    mel_filters: NDArray[np.float32], samples: Waveform, short_clips: ShortClipConfig, masks: Masks | None = None
) -> LogMel:
    """The spectrogram the model gets of a clip; masks lie on the clip's own frames, not on its padding."""
    mel = log_mel(pad(samples, short_clips), mel_filters)
    if masks is None:
        return mel
    first_frame = first_sample(samples.size, short_clips) // HOP_LENGTH
    fill = mel.floor if masks.fill == "floor" else float(mel.features[:, : mel.n_frames].mean())
    return LogMel(apply_masks(mel.features, masks, first_frame, fill), mel.n_frames)


def pad(samples: Waveform, config: ShortClipConfig) -> Waveform:
    """Return `samples` unchanged when long enough, otherwise placed in `minimum_s` of fill."""
    n_wanted = round(config.minimum_s * SAMPLE_RATE_HZ)
    if samples.size >= n_wanted:
        return samples
    padded = np.zeros(n_wanted, dtype=np.float32)
    if config.fill == "noise":
        padded += _fill_noise(n_wanted) * np.float32(peak(samples) * 10 ** (config.fill_level_db / 20))
    start = first_sample(samples.size, config)
    padded[start : start + samples.size] = samples
    return padded


def first_sample(n_samples: int, config: ShortClipConfig) -> int:
    """Where the first of n_samples lies after padding."""
    n_missing = max(0, round(config.minimum_s * SAMPLE_RATE_HZ) - n_samples)
    return n_missing // 2 if config.placement == "centre" else 0


@lru_cache(maxsize=4)
def _fill_noise(n_samples: int) -> Waveform:
    """The fixed white Gaussian noise of unit variance, shape (n_samples,)."""
    return stream(0, "short_clips", "fill").standard_normal(n_samples, dtype=np.float32)


def log_mel(samples: Waveform, mel_filters: NDArray[np.floating]) -> LogMel:
    """Return the log-mel spectrogram of `samples`; mel_filters has shape (201, F), Whisper's slaney filters.

    The first window reflects the clip's start (zeros where the clip is shorter than the reflection). Raises
    AudioError for a clip without samples or longer than 30 s, which is all the encoder has positions for.
    """
    if samples.size == 0:
        raise AudioError("a clip without samples has no spectrogram; at least one sample was expected.")
    if samples.size > MAXIMUM_S * SAMPLE_RATE_HZ:
        raise AudioError(
            f"a clip of {samples.size / SAMPLE_RATE_HZ:.2f} s is longer than the {MAXIMUM_S:.0f} s the audio encoder "
            "has positions for; cut it into shorter clips."
        )
    n_frames = -(-samples.size // HOP_LENGTH)
    n_computed = n_frames + MARGIN_FRAMES
    half = WINDOW_LENGTH // 2
    padded = np.zeros(n_computed * HOP_LENGTH + WINDOW_LENGTH, dtype=np.float32)
    padded[half : half + samples.size] = samples
    padded[:half] = padded[half + 1 : 2 * half + 1][::-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_LENGTH)[::HOP_LENGTH][:n_computed]
    spectrum = scipy.fft.rfft(frames * _HANN, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = np.log10(np.maximum(power @ np.asarray(mel_filters, dtype=np.float32), _POWER_FLOOR)).T
    mel = np.maximum(mel, mel.max() - _DYNAMIC_RANGE)
    return LogMel(np.ascontiguousarray((mel + 4.0) / 4.0, dtype=np.float32), n_frames)


def n_audio_tokens(n_frames: int) -> int:
    """Audio tokens of a clip: two strided stages of the encoder. 2 frames (20 ms) give 0, 4 give 1, 100 give 25."""
    return ((n_frames - 1) // 2 + 1) // 2


def require_tokens(mels: Sequence[LogMel]) -> None:
    """Raise ModelError for a clip so short that it gives no audio token."""
    for mel in mels:
        if n_audio_tokens(mel.n_frames) == 0:
            raise ModelError(
                f"a clip of {mel.n_frames} frames ({mel.n_frames * 10} ms) gives no audio token, the model would "
                "get nothing; pad it first (short_clips.minimum_s of at least 0.04)."
            )
