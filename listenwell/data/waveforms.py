"""Whatever holds one sound in Python becomes a waveform: mono float32 (n_samples,), 16 kHz, full scale +-1.

Arrays, lists and tensors: (n,), (n, 1), (1, n), and (n, channels) or (channels, n) where it is plain which is which.
Integers are scaled by their type: int16 by 1 / 32,768. Files by path or open. Mappings as data sets and other tools
hand them on: {"array" or "waveform": ..., "sampling_rate" or "sample_rate": ...}. Nothing is guessed: what could be two
things is refused.
"""

import io
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Downmix, Waveform
from listenwell.errors import AudioError, AudioWarning

Audio = Any
"""An array, list or tensor; a path or an open file; a mapping of an array and its rate."""
LARGEST_FLOAT = 8.0
"""Floats beyond it are integers in disguise: +18 dB."""
MOST_CHANNELS = 32
_SCALES = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_RATES_HZ = (1_000, 1_000_000)


def is_file(audio: Audio) -> bool:
    """True for a path and an open file."""
    return isinstance(audio, str | os.PathLike) or all(hasattr(audio, name) for name in ("read", "seek", "seekable"))


def as_source(audio: Audio, sample_rate_hz: float | None) -> Path | BinaryIO:
    """Return the path or the open file. Raises AudioError when a rate is given: a file says its own."""
    if sample_rate_hz is not None:
        raise AudioError(f"sample_rate_hz is {sample_rate_hz}, but a file says its own rate; leave it out.")
    if isinstance(audio, str | os.PathLike):
        return Path(audio)
    if isinstance(audio, io.TextIOBase) or audio.closed:
        raise AudioError("the open file is closed, or was opened as text; open it with open(path, 'rb').")
    source: BinaryIO = audio
    return source


def as_waveform(audio: Audio, sample_rate_hz: float | None, channel: int | None = None) -> Waveform:
    """Return an array, list, tensor or mapping as a waveform; channel as in Downmix. Raises AudioError."""
    if isinstance(audio, Mapping):
        audio, sample_rate_hz = _unpack(audio, sample_rate_hz)
    rate_hz = check_rate(sample_rate_hz)
    frames = as_frames(audio)
    downmix = Downmix("the waveform", rate_hz, channel)
    samples = np.concatenate([downmix.mix(frames), downmix.flush()])
    if downmix.note:
        warnings.warn(f"the waveform: {downmix.note}.", AudioWarning, stacklevel=2)
    if samples.size == 0:
        raise AudioError("the waveform holds no samples (it is empty).")
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ, quality="HQ").astype(np.float32)
    return np.ascontiguousarray(samples)


def check_rate(sample_rate_hz: float | None) -> float:
    """Return the rate in Hz. Raises AudioError for none, and for what is no rate of sound."""
    if sample_rate_hz is None:
        raise AudioError("an array says no sample rate; give sample_rate_hz, such as 16000.")
    lowest, highest = _RATES_HZ
    is_number = isinstance(sample_rate_hz, int | float | np.number) and not isinstance(sample_rate_hz, bool)
    if not is_number or not math.isfinite(sample_rate_hz) or not lowest <= sample_rate_hz <= highest:
        raise AudioError(
            f"sample_rate_hz is {sample_rate_hz!r}; a number from {lowest} to {highest} (Hz) was expected."
        )
    return float(sample_rate_hz)


def as_frames(audio: Audio, n_channels: int | None = None) -> NDArray[np.float32]:
    """Return an array, list or tensor as frames (n, n_channels) at its own rate; n may be 0. Raises AudioError.

    n_channels: how many there are, where that is known.
    """
    array = _to_array(audio)
    is_known = n_channels is not None and array.ndim == 2 and array.shape[1] == n_channels
    frames = _scale(array if is_known else _one_or_two_dimensions(array))
    return frames.reshape(0, 1) if frames.size == 0 else frames.reshape(len(frames), -1)


def _unpack(audio: Mapping[str, Any], sample_rate_hz: float | None) -> tuple[Any, float | None]:
    arrays = [key for key in ("array", "waveform") if audio.get(key) is not None]
    rates = [key for key in ("sampling_rate", "sample_rate") if audio.get(key) is not None]
    if len(arrays) != 1 or len(rates) != 1:
        raise AudioError(
            f"a mapping with {', '.join(map(str, audio)) or 'nothing'} was given; 'array' (or 'waveform') and "
            "'sampling_rate' (or 'sample_rate') were expected, decode the sound first."
        )
    rate = audio[rates[0]]
    if sample_rate_hz is not None and sample_rate_hz != rate:
        raise AudioError(f"sample_rate_hz is {sample_rate_hz}, but the mapping's {rates[0]} is {rate}; leave one out.")
    return audio[arrays[0]], rate


def _to_array(audio: Audio) -> NDArray[Any]:
    if isinstance(audio, bytes | bytearray | memoryview):
        raise AudioError("bytes were given; the content of a sound file goes in as io.BytesIO(content).")
    try:
        return np.asarray(_to_host(audio))
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(
            f"a {type(audio).__name__} cannot be taken for a waveform ({error}); an array, a list of numbers, a "
            "tensor, a path or an open file was expected, the sample rate apart."
        ) from error


def _to_host(audio: Audio) -> Any:
    if hasattr(audio, "detach"):  # a tensor, which may need a gradient, lie on a GPU, or be bfloat16, which numpy lacks
        audio = audio.detach().cpu()
        return audio.float() if audio.is_floating_point() else audio
    return audio


def _one_or_two_dimensions(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples (n,) or (n, n_channels)."""
    shape = samples.shape
    if samples.ndim > 2 and math.prod(shape) == max(shape):  # a batch of one
        samples = samples.reshape(-1)
    if samples.ndim == 1 or (samples.ndim == 2 and 1 in shape):
        return samples.reshape(-1)
    if samples.ndim != 2:
        raise AudioError(
            f"the waveform has shape {shape}; (n_samples,) or (n_samples, n_channels) was expected, one sound."
        )
    short, long = sorted(shape)
    if short > MOST_CHANNELS or long < 10 * short:
        raise AudioError(
            f"the waveform has shape {shape}, so channels and samples cannot be told apart; give (n_samples,)."
        )
    return samples if shape[1] == short else samples.T


def _scale(samples: NDArray[Any]) -> NDArray[np.float32]:
    name = samples.dtype.name
    if name in _SCALES:
        return samples.astype(np.float32) / np.float32(_SCALES[name])
    if name == "uint8":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if samples.dtype.kind != "f":
        raise AudioError(
            f"the waveform holds {name}, whose full scale is unknown; give floats within +-1, or int16 or int32."
        )
    with np.errstate(over="ignore"):
        floats = samples.astype(np.float32)
    if not np.isfinite(floats).all():
        raise AudioError("the waveform holds NaN or infinite samples; export it again from its source.")
    largest = float(np.max(np.abs(floats), initial=0.0))
    if largest > LARGEST_FLOAT:
        raise AudioError(
            f"the waveform reaches {largest:g}, but full scale is 1; divide it by that of its format (32768 of 16 bit)."
        )
    return floats
