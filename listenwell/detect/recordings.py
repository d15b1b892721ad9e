"""Which recordings are asked for, and their samples block by block in constant memory, as 16 kHz mono.

Resampling is soxr's streaming "HQ". What breaks off is read as far as it goes, and the note says so.
"""

import glob
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

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
    found: dict[Path, None] = {}
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
            found |= dict.fromkeys(inside.paths)
            continue
        matches = [path] if path == STDIN or path.exists() else sorted(map(Path, glob.glob(name, recursive=True)))
        if not matches:
            raise AudioError(f"{name}: no such file, folder or pattern; check the name.")
        found |= dict.fromkeys(file for file in matches if not file.is_dir())
    return FoundFiles(list(found), left_out)


@dataclass
class Blocks:
    """The blocks of an open recording, each (n_samples,) float32 at 16 kHz; iterate once.

    Afterwards duration_s says how long it was, and `note` what its owner should know. channel: the one to take, from 0;
    None is the mean. Iterating raises AudioError for NaN and infinity.
    """

    recording: Recording
    channel: int | None = None
    duration_s: float = 0.0
    note: str = ""

    def __iter__(self) -> Iterator[Waveform]:
        recording, rate_hz, n_read = self.recording, self.recording.rate_hz, 0
        downmix = Downmix(recording.name, rate_hz, self.channel)
        resampler = None
        if rate_hz != SAMPLE_RATE_HZ:
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        mixed = itertools.chain(map(downmix.mix, recording.blocks(0, block_frames(recording, BLOCK_S))), [None])
        for block in mixed:
            samples = np.ascontiguousarray(downmix.flush() if block is None else block)
            self._require_finite(samples)
            n_read += samples.size
            self.duration_s = n_read / rate_hz
            if samples.size:
                yield samples if resampler is None else self._resample(resampler, samples)
        notes = [recording.fault, *recording.notes, downmix.note]
        self.note = "; ".join(note for note in notes if note)
        if resampler is not None:
            yield self._resample(resampler, np.empty(0, dtype=np.float32), last=True)

    def _resample(self, resampler: soxr.ResampleStream, samples: Waveform, last: bool = False) -> Waveform:
        """What the resampler makes of the next samples; numbers near the largest float32 can become infinite."""
        resampled: Waveform = resampler.resample_chunk(samples, last=last)
        self._require_finite(resampled)
        return resampled

    def _require_finite(self, samples: Waveform) -> None:
        if not np.isfinite(samples).all():
            raise AudioError(
                f"{self.recording.name}: holds NaN or infinite samples near {self.duration_s:.1f} s; export it again."
            )


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
