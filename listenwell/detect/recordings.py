"""Which recordings names lead to, and their samples in constant memory: blocks of 16 kHz mono, cut into windows.

Resampling is soxr's streaming "HQ". What breaks off is read as far as it goes, and the note says so.
"""

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Downmix, Waveform
from listenwell.data.decoding import Recording, Source, block_frames, open_recording
from listenwell.data.sound_files import FoundFiles, find_sound_files
from listenwell.errors import AudioError

BLOCK_S = 10.0
STDIN = Path("-")


def find_recordings(names: Sequence[str]) -> FoundFiles:
    """Return the recordings that paths, folders (searched through) and patterns name, each once, in order.

    "-" is standard input. Raises AudioError for a name that leads to none.
    """
    recordings: dict[Path, None] = {}
    left_out: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = find_sound_files(path)
            left_out += inside.left_out
            if not inside.paths:
                raise AudioError(
                    " ".join([f"{path}: holds no recordings; name the files themselves.", *inside.left_out])
                )
            recordings |= dict.fromkeys(inside.paths)
            continue
        matches = [path] if path == STDIN or path.exists() else sorted(map(Path, glob.glob(name, recursive=True)))
        if not matches:
            raise AudioError(f"{name}: no such file, folder or pattern; check the name.")
        recordings |= dict.fromkeys(file for file in matches if not file.is_dir())
    return FoundFiles(list(recordings), left_out)


class MonoResampler:
    """Mixes and resamples the blocks of one signal to 16 kHz mono; n_samples: how many came, at the signal's own rate.

    channel: the one to take, from 0; None is the mean.
    """

    def __init__(self, name: str, rate_hz: float, channel: int | None = None) -> None:
        self.name, self.rate_hz, self.n_samples = name, rate_hz, 0
        self._downmix = Downmix(name, rate_hz, channel)
        self._resampler = None
        if rate_hz != SAMPLE_RATE_HZ:
            self._resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")

    @property
    def note(self) -> str:
        """What its owner should know, once all is read: that one channel was taken."""
        return self._downmix.note

    def feed(self, frames: NDArray[np.float32]) -> Waveform:
        """The waveform of the next frames (n, n_channels), as far as it is known. Raises AudioError for infinity."""
        return self._resample(self._downmix.mix(frames), is_last=False)

    def finish(self) -> Waveform:
        """The waveform of what is left."""
        return self._resample(self._downmix.flush(), is_last=True)

    def _resample(self, mono: Waveform, *, is_last: bool) -> Waveform:
        samples = np.ascontiguousarray(mono)
        self._require_finite(samples)
        self.n_samples += samples.size
        if self._resampler is None:
            return samples
        resampled: Waveform = self._resampler.resample_chunk(samples, last=is_last)
        self._require_finite(resampled)  # numbers near the largest float32 can become infinite
        return resampled

    def _require_finite(self, samples: Waveform) -> None:
        if not np.isfinite(samples).all():
            raise AudioError(
                f"{self.name}: holds NaN or infinite samples near {self.n_samples / self.rate_hz:.1f} s; export it "
                "again."
            )


class Blocks:
    """The blocks of an open recording, each (n_samples,) float32 at 16 kHz; iterate once.

    Afterwards duration_s says how long it was, and `note` what its owner should know. Iterating raises AudioError for
    NaN and infinity.
    """

    def __init__(self, recording: Recording, channel: int | None = None) -> None:
        self.recording = recording
        self._mono = MonoResampler(recording.name, recording.rate_hz, channel)

    @property
    def duration_s(self) -> float:
        """Seconds read so far."""
        return self._mono.n_samples / self.recording.rate_hz

    @property
    def note(self) -> str:
        """What was wrong or chosen, "" where nothing was."""
        return "; ".join(note for note in [self.recording.fault, *self.recording.notes, self._mono.note] if note)

    def __iter__(self) -> Iterator[Waveform]:
        for frames in self.recording.blocks(0, block_frames(self.recording, BLOCK_S)):
            yield self._mono.feed(frames)
        yield self._mono.finish()


@contextmanager
def open_blocks(source: Source, channel: int | None = None) -> Iterator[Blocks]:
    """Open a file, a stream, or STDIN. Raises AudioError where nothing can be decoded."""
    if source == STDIN and sys.stdin is None:
        raise AudioError("standard input: is closed; pipe a sound file into the command.")
    opened = open_recording(sys.stdin.buffer, "standard input") if source == STDIN else open_recording(source)
    with opened as recording:
        yield Blocks(recording, channel)


def join_blocks(name: str, blocks: Iterable[Waveform]) -> Waveform:
    """Return the blocks as one waveform. Raises AudioError where there is no sample."""
    samples: Waveform = np.concatenate([np.empty(0, dtype=np.float32), *blocks])
    if samples.size == 0:
        raise AudioError(f"{name}: is shorter than one sample at 16 kHz; remove it.")
    return samples


class WindowCutter:
    """Cuts windows of window_s, one every hop_s, out of samples as they come; keeps what lies under one window."""

    def __init__(self, window_s: float, hop_s: float) -> None:
        self.n_window, self.n_hop = round(window_s * SAMPLE_RATE_HZ), round(hop_s * SAMPLE_RATE_HZ)
        self.n_samples = 0
        self._kept = np.empty(0, dtype=np.float32)

    def feed(self, samples: Waveform) -> Iterator[Waveform]:
        """Yield the windows that the next samples complete."""
        self.n_samples += samples.size
        self._kept = np.concatenate([self._kept, samples])
        while self._kept.size >= self.n_window:
            window, self._kept = self._kept[: self.n_window], self._kept[self.n_hop :]
            yield window

    def finish(self) -> Iterator[Waveform]:
        """Yield the shorter last window, where samples are in none yet."""
        is_first = self.n_samples == self._kept.size
        if self._kept.size and (is_first or self._kept.size > self.n_window - self.n_hop):
            yield self._kept


def cut_windows(blocks: Iterable[Waveform], window_s: float, hop_s: float) -> Iterator[Waveform]:
    """Yield the overlapping windows of what the blocks hold together, each (n_samples,), the last maybe shorter.

    Raises AudioError when there are no samples.
    """
    cutter = WindowCutter(window_s, hop_s)
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()
    if not cutter.n_samples:
        raise AudioError("the recording holds no samples; remove it.")
