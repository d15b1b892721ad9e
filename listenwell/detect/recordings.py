"""Find recordings, and read them of any length in constant memory, as 16 kHz mono.

Decoding is libsndfile's, block by block; resampling is soxr's streaming "HQ".
"""

import glob
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, block_frames, mix_down
from listenwell.errors import AudioError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".gsm", ".w64", ".caf")
"""What is looked for in folders; a file that is named is read whatever its name."""
BLOCK_S = 10.0
STDIN = "-"


def find_recordings(asked: Sequence[str]) -> list[Path]:
    """Return the recordings that paths, folders (searched through, by suffix) and patterns name, each once, in order.

    Raises AudioError for a name that leads to none.
    """
    found: dict[Path, None] = {}
    for name in asked:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise AudioError(f"{path}: holds no recordings ({', '.join(SUFFIXES)}); name the files themselves.")
        else:
            inside = [path] if path.is_file() else sorted(Path(match) for match in glob.glob(name, recursive=True))
            if not inside:
                raise AudioError(f"{name}: no such file, folder or pattern; check the name.")
        found |= dict.fromkeys(file for file in inside if not file.is_dir())
    return list(found)


def save_stdin(folder: Path) -> Path:
    """Copy what comes on standard input into `folder`, since decoding must seek, and return the file."""
    path = Path(tempfile.mkstemp(prefix="stdin-", dir=folder)[1])
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if path.stat().st_size == 0:
        raise AudioError("standard input: is empty; pipe a sound file into the command.")
    return path


def measure_duration(path: Path) -> float:
    """Return how many seconds the header promises. Raises AudioError when the file cannot be read."""
    with _opened(path) as file:
        return float(file.frames / file.samplerate)


def read_blocks(path: Path) -> Iterator[Waveform]:
    """Yield the recording block by block, each (n_samples,) float32 at 16 kHz.

    Raises AudioError when it cannot be decoded, ends before its header says, or holds NaN or infinity.
    """
    with _opened(path) as file:
        rate_hz, n_read = file.samplerate, 0
        resampler = None
        if rate_hz != SAMPLE_RATE_HZ:
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        try:
            # not file.blocks: it refuses what cannot be sought in, such as GSM
            n_asked = min(round(BLOCK_S * rate_hz), block_frames(file))
            while len(frames := file.read(n_asked, dtype="float32", always_2d=True)):
                samples = np.ascontiguousarray(mix_down(frames))
                _require_finite(path, samples, n_read / rate_hz)
                n_read += samples.size
                yield samples if resampler is None else _heard(path, resampler, samples, n_read / rate_hz)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: cannot be decoded after {n_read / rate_hz:.1f} s ({error}).") from error
        if n_read < file.frames - 1:
            raise AudioError(
                f"{path}: truncated, its header promises {file.frames / rate_hz:.3f} s but {n_read / rate_hz:.3f} s "
                "could be read; fetch or export it again."
            )
        if resampler is not None:
            yield _heard(path, resampler, np.empty(0, dtype=np.float32), n_read / rate_hz, last=True)


def _heard(path: Path, resampler: soxr.ResampleStream, samples: Waveform, at_s: float, last: bool = False) -> Waveform:
    """What the resampler makes of the next samples; numbers near the largest float32 can become infinite."""
    heard: Waveform = resampler.resample_chunk(samples, last=last)
    _require_finite(path, heard, at_s)
    return heard


def _require_finite(path: Path, samples: Waveform, at_s: float) -> None:
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds NaN or infinite samples near {at_s:.1f} s; export it again.")


def cut_windows(blocks: Iterator[Waveform], window_s: float, hop_s: float) -> Iterator[Waveform]:
    """Yield the overlapping windows of what the blocks hold together, each (n_samples,), the last maybe shorter.

    Only the stretch under one window is kept. Raises AudioError when there are no samples.
    """
    n_window, n_hop = round(window_s * SAMPLE_RATE_HZ), round(hop_s * SAMPLE_RATE_HZ)
    kept, n_cut = np.empty(0, dtype=np.float32), 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        # the last window may be shorter: a whole one is given out once something follows it
        n_ready = max(0, math.ceil((kept.size - n_window) / n_hop))
        for i in range(n_ready):
            yield kept[i * n_hop : i * n_hop + n_window]
        kept, n_cut = kept[n_ready * n_hop :], n_cut + n_ready
    if kept.size == 0 and n_cut == 0:
        raise AudioError("the recording holds no samples; remove it.")
    yield kept


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(
            f"{path}: cannot be decoded ({str(error).rstrip('.')}); WAV, FLAC, Ogg, MP3 and AIFF are read, convert the "
            "file or remove it."
        ) from error
    if file.frames == 0:
        file.close()
        raise AudioError(f"{path}: holds no samples; remove it.")
    return file
