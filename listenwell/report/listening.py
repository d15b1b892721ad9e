"""Sounds and spectrograms as a page carries them: 16 bit WAV and PNG, as files or as data URIs.

Waveforms: mono float32 (n_samples,), 16 kHz. F mel bins, T frames of 10 ms.
"""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import soundfile
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from listenwell.augment.level import measure_level
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.model.mel import LogMel

HIDDEN_RGB = (70, 130, 180)
"""What a mask hides, in a colour the scale of loudness does not have."""
WAV, PNG = "audio/wav", "image/png"


@dataclass(frozen=True, slots=True)
class Player:
    """One sound of a page: its WAV as a data URI, its length, level and peak."""

    title: str
    uri: str
    duration_s: float
    level_db: float
    peak: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One spectrogram of a page as a data URI: n_frames wide, n_mels high."""

    title: str
    uri: str
    n_frames: int
    n_mels: int


def make_player(title: str, samples: Waveform) -> Player:
    """Return the player of a sound."""
    level_db = 20 * math.log10(max(measure_level(samples), 1e-6))
    uri = data_uri(WAV, encode_wav(samples))
    return Player(title, uri, samples.size / SAMPLE_RATE_HZ, level_db, peak(samples))


def draw_picture(
    title: str,
    mel: LogMel,
    features: NDArray[np.float32] | None = None,
    is_hidden: NDArray[np.bool_] | None = None,
) -> Picture:
    """Return the spectrogram in the scale of `mel`, from the clip's silence to its loudest.

    features: shown in its place, of the same shape; is_hidden: where a mask lies.
    """
    uri = data_uri(PNG, encode_spectrogram(mel, features, is_hidden))
    return Picture(title, uri, mel.n_frames, mel.features.shape[0])


def encode_wav(samples: Waveform) -> bytes:
    """Return the sound as a WAV file, rounded to 16 bit."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def encode_spectrogram(
    mel: LogMel, features: NDArray[np.float32] | None = None, is_hidden: NDArray[np.bool_] | None = None
) -> bytes:
    """Return the spectrogram as a PNG file, a pixel for each bin and frame, low frequencies at the bottom."""
    shown = mel.features if features is None else features
    shares = np.clip((shown - mel.floor) / max(float(mel.features.max()) - mel.floor, 1e-6), 0, 1)
    pixels = colormaps["magma"](shares, bytes=True)
    if is_hidden is not None:
        pixels[is_hidden, :3] = HIDDEN_RGB
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels[::-1, : mel.n_frames]), format="png")
    return buffer.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """Return `content` of a MIME type as a URI that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
