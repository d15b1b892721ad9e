"""Load sounds as mono float32 waveforms, shape (n_samples,), 16 kHz, full scale +-1: recordings, and what Python holds.

Recordings are opened by listenwell.data.decoding; resampling is soxr's "HQ" recipe. What cannot be used raises
AudioError; where samples were used that their owner should look at, an AudioWarning says so. Memory grows with what was
decoded, block by block, and up to a limit.

Several channels become one: their mean, or one of them. The mean of channels in antiphase is silence: where it lies
20 dB or more below the loudest channel, that one is taken instead. This is decided for every tenth of a second by all
that came up to its end, so it does not depend on how a recording comes in blocks. Frames: (n_frames, n_channels).

Arrays, lists and tensors: (n,), (n, 1), (1, n), and (n, channels) or (channels, n) where it is plain which is which;
integers are scaled by their type. Nothing is guessed: what could be two things is refused.
"""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from listenwell.data.clip import Clip
from listenwell.data.decoding import Recording, block_frames, open_recording
from listenwell.errors import AudioError, AudioWarning

SAMPLE_RATE_HZ = 16_000
DECODING_VERSION = 3
"""Raised when a change of this module gives other samples for some file."""
Waveform = NDArray[np.float32]
_MOST_FRAMES = 2**29
"""2 GiB of samples; 9 hours at 16 kHz, 3 at 48 kHz. A few kilobytes of FLAC can hold more."""
_LAST_MOMENT_S = 0.05
_ROUNDED_S = 0.05
"""Tables round durations, and FFmpeg finds a place to a thousandth of a second: a stretch may end so much too late."""
ANTIPHASE_POWER = 0.01
"""Power of the mean over that of the loudest channel at which the mean is given up: -20 dB."""
STEP_S = 0.1
Audio = Any
"""An array, list or tensor; a path or an open file; a mapping of an array and its rate."""
LARGEST_FLOAT = 8.0
"""Floats beyond it are integers in disguise: +18 dB."""
MOST_CHANNELS = 32
_SCALES = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_RATES_HZ = (1_000, 1_000_000)


def load_waveform(clip: Clip) -> Waveform:
    """Return the samples of `clip`, shape (n_samples,).

    Raises AudioError, also when the clip is silent, or its samples are not those that the clip has the hash of.
    """
    samples = load_recording(clip.path, clip.start_s, clip.duration_s, clip.channel)
    if is_silent(samples):
        raise AudioError(
            f"{clip.path}: clip '{clip.clip_id}' is silent (every sample is 0), so it cannot bear the label "
            f"{clip.label}; remove it from the manifest."
        )
    if clip.pcm_sha256:
        require_unchanged(f"{clip.path}: clip '{clip.clip_id}'", pcm_sha256(samples), clip.pcm_sha256)
    return samples


def require_unchanged(what: str, sha256: str, expected: str) -> None:
    """Raise AudioError when samples have another hash than the one they had when they were first read."""
    if sha256 != expected:
        raise AudioError(
            f"{what} was changed since its manifest was written, or since this run read it first (pcm_sha256 "
            f"{sha256[:12]}, expected {expected[:12]}); restore the recording, or write the manifest again, which "
            "other versions of the decoders make necessary too."
        )


def load_recording(
    path: Path, start_s: float = 0.0, duration_s: float | None = None, channel: int | None = None
) -> Waveform:
    """Return `duration_s` seconds of the recording from `start_s`, or all of it, shape (n_samples,).

    channel: its number, from 0; None is the mean of all. Raises AudioError when the file is missing, empty, not
    decodable, broken off, shorter than asked, too long to be loaded at once, or holds NaN or infinity.
    """
    with open_recording(path) as recording:
        samples = _read(recording, start_s, duration_s, channel)
        rate_hz = recording.rate_hz
    for note in recording.notes:
        warnings.warn(f"{path}: {note}.", AudioWarning, stacklevel=2)
    resampled = _resample(samples, rate_hz)
    # resampling can make infinity of numbers near the largest float32
    if not (np.isfinite(samples).all() and np.isfinite(resampled).all()):
        raise AudioError(f"{path}: holds NaN or infinite samples; export the file again from its source.")
    if resampled.size == 0:
        raise AudioError(f"{path}: shorter than one sample at 16 kHz; remove it from the manifest.")
    return resampled


def _resample(samples: Waveform, rate_hz: float) -> Waveform:
    """The samples at 16 kHz."""
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ, quality="HQ").astype(np.float32)
    return np.ascontiguousarray(samples)


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a recording is, and how many channels it has."""

    seconds: float
    n_channels: int


def measure_extent(path: Path, must_be_whole: bool = True) -> Extent:
    """Return the recording's extent: as its header says where it can be relied on, else by decoding it.

    Raises AudioError when it cannot be opened, or must be whole and is broken off or unreadable at its end.
    """
    with open_recording(path) as recording:
        known = recording.n_frames
        first = 0 if known is None else max(0, known - round(_LAST_MOMENT_S * recording.rate_hz))
        if known is None or must_be_whole:
            n_frames = first + sum(map(len, recording.blocks(first, block_frames(recording))))
        if must_be_whole:
            _require_whole(recording)
        return Extent((n_frames if known is None else known) / recording.rate_hz, recording.n_channels)


def _require_whole(recording: Recording) -> None:
    if recording.fault:
        raise AudioError(f"{recording.name}: {recording.fault}; fetch or export it again.")


def _read(recording: Recording, start_s: float, duration_s: float | None, channel: int | None) -> Waveform:
    """Return the stretch at the recording's own rate, (n_frames,)."""
    _require_whole(recording)
    rate_hz = recording.rate_hz
    first = round(start_s * rate_hz)
    wanted = None if duration_s is None else round(duration_s * rate_hz)
    if recording.n_frames is not None:
        left = recording.n_frames - first
        wanted = left if wanted is None or 0 < wanted - left <= _ROUNDED_S * rate_hz else wanted
        _require_inside(recording, first, wanted, recording.n_frames)
    _require_loadable(recording, wanted or 0)
    downmix, blocks, n_read = Downmix(recording.name, rate_hz, channel), list[Waveform](), 0
    n_block = block_frames(recording) if wanted is None else max(1, min(block_frames(recording), wanted))
    for block in recording.blocks(first, n_block):
        blocks.append(downmix.mix(block))
        n_read += len(block)
        if wanted is not None and n_read >= wanted:
            break
        _require_loadable(recording, n_read)
    blocks.append(downmix.flush())
    if downmix.note:
        recording.notes.append(downmix.note)
    _require_whole(recording)
    if wanted is not None and n_read < wanted - _ROUNDED_S * rate_hz:
        _require_inside(recording, first, wanted, first + n_read)
    if not n_read:
        raise AudioError(f"{recording.name}: holds no samples from {start_s:.3f} s on; correct start_s.")
    return np.concatenate(blocks)[:wanted]


def _require_inside(recording: Recording, first: int, wanted: int, n_frames: int) -> None:
    rate_hz = recording.rate_hz
    if first < 0 or wanted <= 0 or first + wanted > n_frames + 1:
        raise AudioError(
            f"{recording.name}: asked for {wanted / rate_hz:.3f} s from {first / rate_hz:.3f} s, but the recording "
            f"lasts {n_frames / rate_hz:.3f} s; correct start_s and duration_s in the manifest."
        )


def _require_loadable(recording: Recording, n_frames: int) -> None:
    most_s, seconds = _MOST_FRAMES / max(recording.rate_hz, SAMPLE_RATE_HZ), n_frames / recording.rate_hz
    if seconds > most_s:
        raise AudioError(
            f"{recording.name}: {seconds / 3600:.1f} h at {recording.rate_hz} Hz were asked for, at most "
            f"{most_s / 3600:.1f} h are loaded at once; cut it, or name stretches with start_s and duration_s."
        )


def is_silent(samples: Waveform) -> bool:
    """True when no sample differs from zero."""
    return not np.any(samples)


def rms(samples: Waveform) -> float:
    """Root mean square of the samples, full scale = 1; the sum is taken in float64."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def peak(samples: Waveform) -> float:
    """Largest absolute sample."""
    return float(np.max(np.abs(samples)))


def pcm_sha256(samples: Waveform) -> str:
    """Hash of the decoded samples: the same sound under another name or container has the same hash."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype="<f4").tobytes()).hexdigest()


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


# What Python holds


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
    return _resample(samples, rate_hz)


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
        if hasattr(audio, "detach"):  # a tensor: it may need a gradient, lie on a GPU, or be bfloat16, unknown to numpy
            audio = audio.detach().cpu()
            audio = audio.float() if audio.is_floating_point() else audio
        return np.asarray(audio)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(
            f"a {type(audio).__name__} cannot be taken for a waveform ({error}); an array, a list of numbers, a "
            "tensor, a path or an open file was expected, the sample rate apart."
        ) from error


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
