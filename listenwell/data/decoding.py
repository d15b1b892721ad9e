"""Open a recording of any format and decode it to its true end.

libsndfile reads what it can vouch for: WAV, AIFF, AU, CAF, W64, FLAC, and Ogg that holds one stream. FFmpeg's libraries
read the rest (MP3, whose headers guess; AAC, M4A, WebM, WMA, AC-3, ...), and what libsndfile cannot vouch for: headers
that tell no length, several sounds in one Ogg or FLAC, what it does not open. A length in a header is a guess: the
decoded end counts. Frames are float32 (n_frames, n_channels), full scale +-1, at the recording's own rate.
"""

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from listenwell.data.sound_files import Layout, find_layout
from listenwell.errors import AudioError

Frames = NDArray[np.float32]
Source = Path | BinaryIO
"""A file's path, or an open stream of bytes; one that cannot seek, such as a pipe, is copied to a file first."""
_VOUCHED_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "RAW")
# libsndfile shortens a cut WAV, AIFF, AU or W64 file without an error; its log tells what they promised.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_LATE_START = "Granule position is nonsensical"
_SMALLEST_UNKNOWN_BYTES = 0x7FFF_0000
"""Programs that write WAV into a pipe do not know its length and promise this much or more."""
_BLOCK_VALUES = 2**22
_MOST_AFTER = 0.4
"""Share of a WAV behind the end of its last chunk from which on its owner is told; less may be padding or a tag."""
_CRASHED = "its header tells no length, as a recorder leaves it that was stopped; what follows was read"


class Recording(Protocol):
    """An open recording.

    n_frames: its length where the header can be relied on, else None: then only decoding tells. promised_s: the length
    that the header tells, true or not; 0 where it tells none. fault: "" or why there should be more, at the latest once
    the last block was read. notes: what its owner should know beside that.
    """

    name: str
    rate_hz: int
    n_channels: int
    promised_s: float
    notes: list[str]
    fault: str

    @property
    def n_frames(self) -> int | None:
        """Frames there are, None where only decoding tells."""

    def blocks(self, first: int, n_block: int) -> Iterator[Frames]:
        """Yield the frames from number `first` on, about n_block at a time, at most 16 MiB. Once. Raises AudioError."""


@contextmanager
def open_recording(source: Source, name: str | None = None) -> Iterator[Recording]:
    """Open a file or a stream; a file is closed at the end of the block. name: what sentences call it, else its path.

    Raises AudioError where nothing can be decoded.
    """
    called = name or (str(source) if isinstance(source, Path) else "the open file")
    with ExitStack() as stack:
        try:
            recording = _open(source, called, stack)
        except OSError as error:
            raise AudioError(f"{called}: cannot be read ({error.strerror or error}); check its permissions.") from error
        yield recording


def block_frames(recording: Recording, seconds: float = float("inf")) -> int:
    """How many frames to decode at once: those of so many seconds, at most 16 MiB of float32."""
    return max(1, int(min(seconds * recording.rate_hz, _BLOCK_VALUES // recording.n_channels)))


def _open(source: Source, name: str, stack: ExitStack) -> Recording:
    if isinstance(source, Path):
        _require_file(source)
        if not source.is_file():  # a named pipe, /dev/stdin
            source = _copy_stream(name, stack.enter_context(source.open("rb")), stack)
    elif not source.seekable():
        source = _copy_stream(name, source, stack)
    layout = find_layout(source)
    if layout.fault:
        raise AudioError(f"{name}: {layout.fault}.")
    if layout.end is not None:
        source = _read_start(source, layout.end)
    try:
        if layout.is_mpeg or layout.is_chained:
            raise _NotVouchedError("")
        return LibsndfileRecording(name, source, layout, stack)
    except _NotVouchedError as reason:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        recording = _with_ffmpeg(name, file, stack, layout.is_cut, layout.is_chained)
        recording.notes += [str(reason)] if str(reason) else []
        return recording


def _require_file(path: Path) -> None:
    if not os.path.exists(path):
        raise AudioError(f"{path}: no such file; check the path.")
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, a sound file was expected.")
    if path.is_file() and path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); fetch or export it again.")


def _copy_stream(name: str, stream: BinaryIO, stack: ExitStack) -> BinaryIO:
    """What a pipe holds as a temporary file: tables may lie at its end, and its layout is looked at."""
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(stream, copy)
    if copy.tell() == 0:
        raise AudioError(f"{name}: is empty; pipe a sound file into it.")
    copy.seek(0)
    return cast(BinaryIO, copy)


def _read_start(source: Source, end: int) -> BinaryIO:
    """The bytes of a file up to `end`, as a file."""
    with ExitStack() as stack:
        return io.BytesIO((stack.enter_context(source.open("rb")) if isinstance(source, Path) else source).read(end))


def _with_ffmpeg(
    name: str, file: BinaryIO, stack: ExitStack, is_cut: bool = False, is_chained: bool = False
) -> Recording:
    # a fifth of a second and many libraries, which most studies never need
    from listenwell.data.ffmpeg import FfmpegRecording

    recording = FfmpegRecording(name, file, is_cut, is_chained)
    stack.callback(recording.close)
    return recording


class _NotVouchedError(Exception):
    """Libsndfile does not open the file, or cannot tell where it ends. Its text is a note for the owner, or ""."""


class LibsndfileRecording:
    """A recording that libsndfile opens and whose end it knows."""

    def __init__(self, name: str, source: Source, layout: Layout, stack: ExitStack) -> None:
        """Raises _NotVouchedError where FFmpeg should read it."""
        self.name, self.notes, self.fault = name, list[str](), ""
        self._source, self._stack = source, stack
        try:
            # bytes, since a name need not be UTF-8
            opened = os.fsencode(source) if isinstance(source, Path) else source
            self._file = file = stack.enter_context(soundfile.SoundFile(opened))
        except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
            raise _NotVouchedError("") from error
        self._require_vouched()
        self.rate_hz, self.n_channels, self.n_frames = int(file.samplerate), int(file.channels), int(file.frames)
        self.promised_s = self.n_frames / self.rate_hz
        chunk = _SHORT_CHUNK.search(file.extra_info)
        if chunk is not None and int(chunk[2]) < int(chunk[1]) < _SMALLEST_UNKNOWN_BYTES:
            self.fault = f"truncated, the header promises more than the {self.promised_s:.3f} s that are there"
        if layout.is_cut:
            self.fault = "truncated, its last page is incomplete"
        if layout.share_after > _MOST_AFTER:
            self.notes.append(
                f"{layout.share_after:.0%} of it lie behind the end that its header tells, and were not read"
            )

    def _require_vouched(self) -> None:
        file = self._file
        if file.format not in _VOUCHED_FORMATS or file.subtype.startswith("MPEG"):
            raise _NotVouchedError("")
        if file.frames == 0:
            raise _NotVouchedError(_CRASHED)
        if _LATE_START in file.extra_info:  # an Ogg cut out of another: places in it are not found
            raise _NotVouchedError("")
        if file.format == "FLAC":
            try:
                file.seek(file.frames - 1)
                is_whole = len(file.read(1)) == 1
                file.seek(0)
            except (soundfile.LibsndfileError, ValueError, RuntimeError):
                is_whole = False
            if not is_whole:
                raise _NotVouchedError("")

    def blocks(self, first: int, n_block: int) -> Iterator[Frames]:
        """Yield the frames from number `first` on, n_block at a time. Once."""
        file, n_read = self._file, 0
        try:
            if file.seekable():
                file.seek(min(first, self.n_frames))
            else:  # GSM 6.10 without a header
                file.read(first)
            # not file.blocks: it refuses what cannot be sought in
            while len(block := file.read(n_block, dtype="float32", always_2d=True)):
                n_read += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            at_s, reason = (first + n_read) / self.rate_hz, str(error).rstrip(".")
            # libsndfile stops at a damaged spot, and FFmpeg goes on behind it
            source = self._source
            opened = self._stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            yield from _with_ffmpeg(self.name, opened, self._stack).blocks(first + n_read, n_block)
            self.fault = f"damaged, it cannot be decoded rightly after {at_s:.3f} s ({reason})"
            return
        if not self.fault and first + n_read < self.n_frames - 1:
            self.fault = (
                f"truncated, the header promises {self.promised_s:.3f} s but only "
                f"{(first + n_read) / self.rate_hz:.3f} s could be read"
            )
