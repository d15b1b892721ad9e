"""Decode with FFmpeg's libraries, through PyAV, what they decode: MP3, AAC, M4A, WebM, WMA, AC-3 and the like.

A file that breaks off is decoded as far as it goes, and `fault` says so. Only some containers say how much they hold;
of the others FFmpeg guesses. Frames are float32 (n_frames, n_channels), full scale +-1.
"""

import itertools
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from listenwell.errors import AudioError

Frames = NDArray[np.float32]
READABLE = "WAV, FLAC, Ogg, MP3, M4A, WebM, WMA, AC-3 and whatever else FFmpeg decodes can be read"
_TELL_LENGTH = ("mov", "matroska", "asf", "flv", "flac", "tta", "wv", "wav", "nistsphere")
"""Containers, by the first of FFmpeg's names for them, whose header says how long they are."""
_SHORT_BY_S = 0.1
"""So much more than it holds a whole file may promise: encoders fill up their last block."""
_UNKNOWN_BYTES = 0x7FFF_0000
"""WAV written into a pipe promises this much or more."""
_MOST_LOST = 0.01
"""Share of packets of a whole file that are no sound: tags lie between files that were joined."""
_SEEK_FROM_S, _RUN_UP_S, _FARTHEST_S = 30.0, 3.0, 30.0
"""Later stretches are sought, so much before their start that decoders have settled; what lies farther off is wrong."""
# kbit/s of MPEG audio by version and layer (ISO 11172-3, 13818-3)
_KBITS = {
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class FfmpegRecording:
    """One recording, decoded as it comes; where its rate changes on the way, that of its start is kept."""

    n_frames = None

    def __init__(self, name: str, file: BinaryIO, is_cut: bool = False) -> None:
        """is_cut: it is known to break off. Raises AudioError for what is no sound, or holds none."""
        self.name, self.fault, self.notes = name, "", list[str]()
        self._file, self._is_cut = file, is_cut
        self.rate_hz, self.n_channels, self._layout = 0, 0, ""
        self._first_pts: int | None = None
        self._resampler: tuple[Any, av.AudioResampler] | None = None
        self._arrays = self._decode_all()
        start = next(self._arrays, None)
        if start is None:
            raise AudioError(f"{name}: holds no samples; remove it.")
        self._start = start

    def close(self) -> None:
        """Let go of what FFmpeg holds; the file stays open."""
        self._arrays.close()

    def blocks(self, first: int, n_block: int) -> Iterator[Frames]:
        """Yield the frames from number `first` on, n_block or some more at a time. Once."""
        arrays: Iterator[Frames] = itertools.chain([self._start], self._arrays)
        at = 0
        if first > _SEEK_FROM_S * self.rate_hz and self._file.seekable():
            arrays, at = self._seek(first)
        kept, n_kept = list[Frames](), 0
        for array in arrays:
            kept.append(array[max(0, first - at) :])
            n_kept += len(kept[-1])
            at += len(array)
            if n_kept >= n_block:
                yield np.concatenate(kept)
                kept, n_kept = [], 0
        if n_kept:
            yield np.concatenate(kept)

    def _seek(self, first: int) -> tuple[Iterator[Frames], int]:
        """The arrays from shortly before frame `first` on, all where it is not found, and the first one's number."""
        self._arrays.close()
        self._file.seek(0)
        frames = self._decode_from(first / self.rate_hz - _RUN_UP_S)
        start = next(frames, None)
        pts, base = (start.pts, start.time_base) if start is not None else (None, None)
        if start is not None and pts is not None and base is not None and self._first_pts is not None:
            at = round(float((pts - self._first_pts) * base) * self.rate_hz)
            if first - _FARTHEST_S * self.rate_hz <= at <= first:
                self._arrays = (self._to_array(frame) for frame in itertools.chain([start], frames))
                return self._arrays, at
        frames.close()
        self._arrays = self._decode_all()
        return self._arrays, 0

    def _decode_all(self) -> Generator[Frames]:
        """Yield what the decoder gives."""
        if self._file.seekable():
            self._file.seek(0)
        for frame in self._decode_from():
            if self.rate_hz == 0:
                self.rate_hz, self.n_channels = frame.sample_rate, frame.layout.nb_channels
                self._layout, self._first_pts = frame.layout.name, frame.pts
            yield self._to_array(frame)
        if self._is_cut:
            self.fault = "truncated, its last page is incomplete"

    def _decode_from(self, from_s: float | None = None) -> Generator[av.AudioFrame]:
        """Yield the frames, from about from_s on; a whole file is told from one that breaks off."""
        try:
            # no file may name others to be read, as playlists do
            container: Any = av.open(self._file, options={"protocol_whitelist": "none"}, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{self.name}: cannot be decoded ({_reason(error)}); {READABLE}, convert the file or remove it."
            ) from error
        with container:
            if not container.streams.audio:
                raise AudioError(f"{self.name}: holds no sound ({container.format.long_name}); remove it.")
            stream = container.streams.audio[0]
            if len(container.streams.audio) > 1:
                self.notes.append(f"holds {len(container.streams.audio)} sound tracks, the first was read")
            if from_s is not None and stream.time_base:
                container.seek(int(from_s / stream.time_base) + (self._first_pts or 0), stream=stream)
            tally = _Tally()
            try:
                for packet in container.demux(stream):
                    yield from tally.decode(packet)
            except (av.FFmpegError, OSError) as error:
                self.fault = f"truncated, it cannot be decoded after {tally.seconds:.3f} s ({_reason(error)})"
            if from_s is None and not self.fault:
                self.fault = tally.find_fault(container, stream)

    def _to_array(self, frame: av.AudioFrame) -> Frames:
        """The frame's samples (n, n_channels), at the rate of the first one and with as many channels."""
        if frame.sample_rate == self.rate_hz and frame.layout.nb_channels == self.n_channels:
            return _to_array(frame)
        form = (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._resampler is None or self._resampler[0] != form:
            self._resampler = form, av.AudioResampler(format="fltp", layout=self._layout, rate=self.rate_hz)
        arrays = [_to_array(each) for each in self._resampler[1].resample(frame)]
        return np.concatenate(arrays) if arrays else np.empty((0, self.n_channels), dtype=np.float32)


class _Tally:
    """Counts what a file's packets gave."""

    def __init__(self) -> None:
        self.seconds, self.n_samples, self.n_packets, self.n_lost, self.n_lost_at_end = 0.0, 0, 0, 0, 0
        self.last = b""

    def decode(self, packet: Any) -> Iterator[av.AudioFrame]:
        """Yield the packet's frames; one that cannot be decoded is passed over."""
        if packet.size:
            self.n_packets += 1
            self.last = packet
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self.n_lost += 1
            self.n_lost_at_end += 1
            return
        for frame in frames:
            self.n_lost_at_end = 0
            self.n_samples += frame.samples
            self.seconds += frame.samples / frame.sample_rate
            yield frame

    def find_fault(self, container: Any, stream: Any) -> str:
        """Why the file should hold more than it gave, "" where nothing says so."""
        form = container.format.name.split(",")[0]
        promised_s = _promised_s(container, stream) if form in _TELL_LENGTH else 0.0
        is_pcm = stream.codec_context.name.startswith("pcm")
        n_given = self.n_samples if is_pcm else self.n_packets
        if self.seconds < promised_s - _SHORT_BY_S:
            return f"truncated, the header promises {promised_s:.3f} s but only {self.seconds:.3f} s could be read"
        if (is_pcm or form == "avi") and n_given < stream.frames:
            return f"truncated, only {n_given} of {stream.frames} frames are there ({self.seconds:.3f} s)"
        # tags at the end of an MP3 are lost packets too
        guessed_s = (container.duration or 0) / av.time_base if form == "mp3" else 0.0
        is_short = form != "mp3" or self.seconds < guessed_s - _SHORT_BY_S
        if (self.n_lost_at_end and is_short) or _is_part_of_frame(self.last):
            return f"truncated, its last frame is incomplete (after {self.seconds:.3f} s)"
        if self.n_lost > _MOST_LOST * self.n_packets:
            return f"damaged, {self.n_lost} of {self.n_packets} packets cannot be decoded"
        return ""


def _promised_s(container: Any, stream: Any) -> float:
    """How long the header says the sound is; 0 where it does not, or tells of pictures too."""
    if stream.duration is not None:
        promised_s = float(stream.duration * stream.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        start_s = float((stream.start_time or 0) * stream.time_base)
        promised_s = container.duration / av.time_base - max(0.0, start_s)
    else:
        return 0.0
    is_unknown = promised_s * stream.rate * stream.channels * 2 >= _UNKNOWN_BYTES
    return 0.0 if container.format.name == "wav" and is_unknown else promised_s


def _is_part_of_frame(packet: Any) -> bool:
    """True for an MPEG audio frame of layer 2 or 3 that is shorter than its own header says."""
    head = bytes(packet)[:4] if packet else b""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = 1 if head[1] & 0x18 == 0x18 else 2, 4 - (head[1] >> 1 & 3)
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if (version, layer) not in _KBITS or index in (0, 15) or rate_index == 3:
        return False
    rate_hz = (44_100, 48_000, 32_000)[rate_index] >> {0x18: 0, 0x10: 1}.get(head[1] & 0x18, 2)
    samples = 576 if (version, layer) == (2, 3) else 1152
    return len(bytes(packet)) < samples // 8 * 1000 * _KBITS[version, layer][index] // rate_hz


def _to_array(frame: av.AudioFrame) -> Frames:
    """The samples of a frame of any format, (n, n_channels)."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
