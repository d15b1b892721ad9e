"""Load recordings as mono float32 waveforms, shape (n_samples,), 16 kHz, full scale +-1.

Decoding is libsndfile's (WAV, FLAC, Ogg, MP3, AIFF), resampling is soxr's "HQ" recipe. Several channels are
averaged. What cannot be used raises AudioError naming the file; nothing is repaired in silence. A header is not
believed: memory grows with what was decoded, block by block, and up to a limit.
"""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from listenwell.data.clip import Clip
from listenwell.errors import AudioError

SAMPLE_RATE_HZ = 16_000
DECODING_VERSION = 1
"""Raised when a change of this module gives other samples for some file."""
Waveform = NDArray[np.float32]
# libsndfile shortens a cut WAV, AIFF, AU or Ogg file without an error; its log tells what the first three promised.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_LONGEST_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_BLOCK_VALUES = 2**22
_MOST_FRAMES = 2**29
"""2 GiB of samples; 9 hours at 16 kHz, 3 at 48 kHz. A few kilobytes of FLAC can hold more."""
_SMALLEST_UNKNOWN_BYTES = 0x7FFF_0000
"""Programs that write WAV into a pipe do not know its length and promise this much or more."""


def load_waveform(clip: Clip) -> Waveform:
    """Return the samples of `clip`, shape (n_samples,).

    Raises AudioError, also when the clip is silent, or its samples are not those that the clip has the hash of.
    """
    samples = load_recording(clip.path, clip.start_s, clip.duration_s)
    if is_silent(samples):
        raise AudioError(
            f"{clip.path}: clip '{clip.clip_id}' is silent (every sample is 0), so it cannot bear the label "
            f"{clip.label}; remove it from the manifest."
        )
    if clip.pcm_sha256:
        require_unchanged(f"{clip.path}: clip '{clip.clip_id}'", pcm_sha256(samples), clip.pcm_sha256)
    return samples


def require_unchanged(what: str, found: str, expected: str) -> None:
    """Raise AudioError when samples have another hash than the one they had when they were first read."""
    if found != expected:
        raise AudioError(
            f"{what} was changed since its manifest was written, or since this run read it first (pcm_sha256 "
            f"{found[:12]}, expected {expected[:12]}); restore the recording, or write the manifest again, which "
            "another version of libsndfile or soxr makes necessary too."
        )


def load_recording(path: Path, start_s: float = 0.0, duration_s: float | None = None) -> Waveform:
    """Return `duration_s` seconds of the recording from `start_s`, or all of it, shape (n_samples,).

    Raises AudioError when the file is missing, empty, not decodable, shorter than asked, too long to be loaded at once,
    or holds NaN or infinity.
    """
    samples, source_rate_hz = _decode(path, start_s, duration_s)
    _require_finite(path, samples)
    if source_rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, source_rate_hz, SAMPLE_RATE_HZ, quality="HQ").astype(np.float32)
        _require_finite(path, samples)
    if samples.size == 0:
        raise AudioError(f"{path}: shorter than one sample at 16 kHz; remove it from the manifest.")
    return np.ascontiguousarray(samples)


def _require_finite(path: Path, samples: Waveform) -> None:
    """Raise AudioError for NaN or infinity; resampling can make it of numbers near the largest float32."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; export the file again from its source.")


def _decode(path: Path, start_s: float, duration_s: float | None) -> tuple[Waveform, int]:
    """Return samples (n_frames,) at the file's own rate, and that rate in Hz."""
    if not os.path.exists(path):
        raise AudioError(f"{path}: no such file; check the path column of the manifest.")
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, a sound file was expected.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); fetch or export it again.")
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz: int = file.samplerate
            declared = file.frames
            first = round(start_s * rate_hz)
            wanted = declared - first if duration_s is None else round(duration_s * rate_hz)
            if _is_cut(path, file.extra_info):
                raise AudioError(
                    f"{path}: truncated, the header promises more than the {declared / rate_hz:.3f} s that are there; "
                    "fetch or export it again."
                )
            if declared == 0:
                raise AudioError(f"{path}: holds no samples; remove it from the manifest.")
            if first < 0 or wanted <= 0 or first + wanted > declared + 1:
                raise AudioError(
                    f"{path}: asked for {wanted / rate_hz:.3f} s from {start_s:.3f} s, but the recording lasts "
                    f"{declared / rate_hz:.3f} s; correct start_s and duration_s in the manifest."
                )
            if file.seekable():
                file.seek(first)
            else:  # GSM 6.10 without a header
                file.read(first)
            most_s = _MOST_FRAMES / max(rate_hz, SAMPLE_RATE_HZ)
            if wanted > most_s * rate_hz:
                raise AudioError(
                    f"{path}: {wanted / rate_hz / 3600:.1f} h at {rate_hz} Hz were asked for, at most "
                    f"{most_s / 3600:.1f} h are loaded at once; cut it into shorter files, or name stretches with "
                    "start_s and duration_s."
                )
            samples = _read_mono(file, wanted)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: cannot be decoded ({str(error).rstrip('.')}); WAV, FLAC, Ogg, MP3 and AIFF are read, "
            "convert the file or remove it."
        ) from error
    if samples.size < wanted - 1:
        raise AudioError(
            f"{path}: truncated, the header promises {declared / rate_hz:.3f} s but only "
            f"{(first + samples.size) / rate_hz:.3f} s could be read; fetch or export it again."
        )
    return samples, rate_hz


def _read_mono(file: soundfile.SoundFile, n_frames: int) -> Waveform:
    """The next n_frames of `file`, fewer where it ends, its channels averaged."""
    blocks, n_left = [], n_frames
    while n_left > 0:
        n_asked = min(n_left, block_frames(file))
        frames = file.read(n_asked, dtype="float32", always_2d=True)
        blocks.append(mix_down(frames))
        n_left = n_left - n_asked if len(frames) == n_asked else 0
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def block_frames(file: soundfile.SoundFile) -> int:
    """How many frames are decoded at once: 16 MiB of float32, however many channels there are."""
    return _BLOCK_VALUES // int(file.channels)


def mix_down(frames: NDArray[np.float32]) -> Waveform:
    """The mean over the channels of frames (n_frames, n_channels); infinite where their sum overflows."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(frames.mean(axis=1, dtype=np.float32))


def _is_cut(path: Path, log: str) -> bool:
    """Tell whether the file ends before its promised end; `log` is libsndfile's account of the header."""
    chunk = _SHORT_CHUNK.search(log)
    if chunk is not None:
        return int(chunk[2]) < int(chunk[1]) < _SMALLEST_UNKNOWN_BYTES
    return _ends_inside_ogg_page(path)


def _ends_inside_ogg_page(path: Path) -> bool:
    """Tell whether an Ogg file's last page is incomplete (RFC 3533: 27 bytes, n sizes of segments, the segments)."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - 2 * _LONGEST_OGG_PAGE_BYTES))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) < 27 or len(sizes) < page[26] or len(page) < 27 + page[26] + sum(sizes)


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
