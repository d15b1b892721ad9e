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
_SYNC = {"mp3": b"\xff", "aac": b"\xff", "ac3": b"\x0bw", "eac3": b"\x0bw", "dts": b"\x7f\xfe", "flac": b"\xff"}
"""How a frame of a file without a container begins; what begins otherwise is no sound, such as a tag."""
_EXACT_SEEKS = ("mp3", "aac", "mov", "matroska", "flv", "mpegts", "flac", "ogg", "wv", "tta")
"""Where FFmpeg finds a place to a thousandth of a second; of other formats it guesses from the bit rate."""
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Tags that are no UTF-8 are no reason to refuse a file; from version 19 on PyAV says so itself."""
_SEEK_FROM_S, _RUN_UP_S, _FARTHEST_S = 30.0, 3.0, 30.0
"""Later stretches are sought, so much before their start that decoders have settled; what lies farther off is wrong."""
# kbit/s of MPEG audio by version and layer (ISO 11172-3, 13818-3)
_KBITS = {
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Of hostile files PyAV also raises IndexError, and OSError where FFmpeg reports one.
_FAILURES = (av.FFmpegError, OSError, ValueError, IndexError)


class FfmpegRecording:
    """One recording, decoded as it comes; where rate or channels change on the way, those of its start are kept."""

    n_frames = None

    def __init__(self, name: str, file: BinaryIO, is_cut: bool = False, is_chained: bool = False) -> None:
        """is_cut: it is known to break off; is_chained: its times begin anew, so no place is sought.

        Raises AudioError for what is no sound, or holds none.
        """
        self.name, self.fault, self.notes = name, "", list[str]()
        self._reader, self._is_cut, self._is_chained = _Reader(file), is_cut, is_chained
        self.rate_hz, self.n_channels, self._layout, self._form = 0, 0, "", ""
        self.promised_s = 0.0
        self._first_pts: int | None = None
        self._begun_at: tuple[Any, Any] = (None, None)
        self._resampler: tuple[Any, av.AudioResampler] | None = None
        self._arrays = self._decode_all()
        start = next(self._arrays, None)
        if start is None:
            raise AudioError(f"{name}: {self.fault or 'holds no samples'}; fetch or export it again, or remove it.")
        self._start = start

    def close(self) -> None:
        """Let go of what FFmpeg holds; the file stays open."""
        self._arrays.close()

    def blocks(self, first: int, n_block: int) -> Iterator[Frames]:
        """Yield the frames from number `first` on, n_block or some more at a time. Once."""
        arrays: Iterator[Frames] = itertools.chain([self._start], self._arrays)
        at = 0
        if first > _SEEK_FROM_S * self.rate_hz and self._form in _EXACT_SEEKS and not self._is_chained:
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
        self._resampler = None
        frames = self._decode_from(first / self.rate_hz - _RUN_UP_S)
        start = next(frames, None)
        pts, base = self._begun_at
        if start is not None and pts is not None and base is not None and self._first_pts is not None:
            at = round(float((pts - self._first_pts) * base) * self.rate_hz)
            if first - _FARTHEST_S * self.rate_hz <= at <= first:
                self._arrays = (_samples(frame) for frame in itertools.chain([start], frames))
                return self._arrays, at
        frames.close()
        self._resampler, self.fault = None, ""
        self._arrays = self._decode_all()
        return self._arrays, 0

    def _decode_all(self) -> Generator[Frames]:
        """Yield what the decoder gives."""
        yield from map(_samples, self._decode_from())
        if self._is_cut:
            self.fault = "truncated, its last page is incomplete"

    def _decode_from(self, from_s: float | None = None) -> Generator[av.AudioFrame]:
        """Yield the frames as packed floats, from about from_s on; a whole file is told from one that breaks off."""
        self._reader.seek(0)
        self._begun_at = (None, None)
        try:
            # no file may name others to be read, as playlists do
            options = {"protocol_whitelist": "none"}
            container: Any = av.open(self._reader, options=options, **_TAGS)
        except _FAILURES as error:
            self._reader.raise_failure(self.name)
            raise AudioError(
                f"{self.name}: cannot be decoded ({_reason(error)}); {READABLE}, convert the file or remove it."
            ) from error
        with container:
            self._form = container.format.name.split(",")[0]
            stream = self._find_stream(container)
            self.promised_s = _promised_s(container, stream)
            tally = _Tally()
            failed: Exception | None = None
            try:
                if from_s is not None:
                    container.seek(int(from_s / stream.time_base) + (self._first_pts or 0), stream=stream)
                for packet in container.demux(stream):
                    for frame in tally.decode(packet):
                        yield from self._pack(frame)
                if self._resampler is not None:
                    yield from self._resampler[1].resample(None)
            except _FAILURES as failure:
                failed = failure
            self._reader.raise_failure(self.name)
            if from_s is None:
                self.fault = tally.find_fault(container, stream, self._form, failed)

    def _find_stream(self, container: Any) -> Any:
        """The first sound track that FFmpeg has a decoder for."""
        if not container.streams.audio:
            raise AudioError(f"{self.name}: holds no sound ({container.format.long_name}); remove it.")
        stream = container.streams.audio[0]
        if stream.codec_context is None or not stream.time_base:
            raise AudioError(f"{self.name}: its sound is coded in a way that FFmpeg does not decode; convert the file.")
        if len(container.streams.audio) > 1 and not self.notes:
            self.notes.append(f"holds {len(container.streams.audio)} sound tracks, the first was read")
        return stream

    def _pack(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frame as packed floats, at the rate of the first one and with as many channels.

        Planes are not read one by one: PyAV counts more of them than there are where there are more than eight.
        """
        if self._begun_at == (None, None):
            self._begun_at = frame.pts, frame.time_base
        if self.rate_hz == 0:
            self.rate_hz, self.n_channels = frame.sample_rate, frame.layout.nb_channels
            self._layout, self._first_pts = frame.layout.name, frame.pts
        form, ended = (frame.sample_rate, frame.layout.name, frame.format.name), []
        if self._resampler is None or self._resampler[0] != form:
            ended = [] if self._resampler is None else self._resampler[1].resample(None)
            self._resampler = form, av.AudioResampler(format="flt", layout=self._layout, rate=self.rate_hz)
        return [*ended, *self._resampler[1].resample(frame)]


class _Tally:
    """Counts what a file's packets gave."""

    def __init__(self) -> None:
        self.seconds, self.n_samples, self.n_packets, self.n_lost = 0.0, 0, 0, 0
        self.lost_at_end, self.last, self.last_bytes, self.bytes_before = list[bytes](), b"", 0, 0

    def decode(self, packet: Any) -> Iterator[av.AudioFrame]:
        """Yield the packet's frames; one that cannot be decoded is passed over."""
        if packet.size:
            self.n_packets += 1
            self.bytes_before, self.last_bytes = self.last_bytes, packet.size
            self.last = bytes(packet)[:4]
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self.n_lost += 1
            self.lost_at_end.append(self.last)
            return
        for frame in frames:
            self.lost_at_end.clear()
            self.n_samples += frame.samples
            self.seconds += frame.samples / frame.sample_rate
            yield frame

    def find_fault(self, container: Any, stream: Any, form: str, error: Exception | None) -> str:
        """Why the file should hold more than it gave, "" where nothing says so."""
        if self.n_packets and not self.n_samples:
            return f"damaged, none of its {self.n_packets} packets can be decoded"
        promised_s = _promised_s(container, stream) if form in _TELL_LENGTH else 0.0
        if self.seconds < promised_s - _SHORT_BY_S:
            return f"truncated, the header promises {promised_s:.3f} s but only {self.seconds:.3f} s could be read"
        is_pcm = stream.codec_context.name.startswith("pcm")
        n_given = self.n_samples if is_pcm else self.n_packets
        if (is_pcm or form == "avi") and n_given < stream.frames:
            return f"truncated, only {n_given} of {stream.frames} frames are there ({self.seconds:.3f} s)"
        # without a container, or past the length that the header tells, what follows may be no sound
        if error is not None and not promised_s and form not in (*_SYNC, "mpegts"):
            return f"truncated, it cannot be decoded after {self.seconds:.3f} s ({_reason(error)})"
        if self._ends_inside_frame(form):
            return f"truncated, its last frame is incomplete (after {self.seconds:.3f} s)"
        if self.n_lost > _MOST_LOST * self.n_packets:
            return f"damaged, {self.n_lost} of {self.n_packets} packets cannot be decoded"
        return ""

    def _ends_inside_frame(self, form: str) -> bool:
        if form == "mp3":
            return self.last_bytes < _mpeg_frame_bytes(self.last)
        if form in ("ac3", "eac3"):  # at a constant rate, frames differ by two bytes
            return self.last.startswith(_SYNC[form]) and self.last_bytes < self.bytes_before - 2
        lost = [start for start in self.lost_at_end if start.startswith(_SYNC.get(form, b""))]
        return bool(lost) and form != "mpegts"


def _promised_s(container: Any, stream: Any) -> float:
    """How long the header says the sound is; 0 where it does not, or tells of pictures too."""
    if stream.duration is not None:
        promised_s = float(stream.duration * stream.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        start_s = float((stream.start_time or 0) * stream.time_base)
        promised_s = container.duration / av.time_base - max(0.0, start_s)
    else:
        return 0.0
    context = stream.codec_context
    is_unknown = promised_s * context.sample_rate * context.layout.nb_channels * 2 >= _UNKNOWN_BYTES
    return 0.0 if container.format.name == "wav" and is_unknown else promised_s


def _mpeg_frame_bytes(head: bytes) -> int:
    """How long the header of an MPEG audio frame of layer 2 or 3 says it is; 0 for what is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = 1 if head[1] & 0x18 == 0x18 else 2, 4 - (head[1] >> 1 & 3)
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if (version, layer) not in _KBITS or index in (0, 15) or rate_index == 3:
        return 0
    rate_hz = (44_100, 48_000, 32_000)[rate_index] >> {0x18: 0, 0x10: 1}.get(head[1] & 0x18, 2)
    samples = 576 if (version, layer) == (2, 3) else 1152
    return samples // 8 * 1000 * _KBITS[version, layer][index] // rate_hz


def _samples(frame: av.AudioFrame) -> Frames:
    """The samples of a frame of packed floats, (n, n_channels)."""
    samples: Frames = frame.to_ndarray().astype(np.float32, copy=False)
    return samples.reshape(-1, frame.layout.nb_channels)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


class _Reader:
    """A file as PyAV reads it. What is raised within its call, Ctrl-C too, PyAV would swallow: it is kept for later."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file = file
        self._failure: BaseException | None = None

    def read(self, size: int) -> bytes:
        """The next bytes; none after a failure, so that FFmpeg comes to an end."""
        if self._failure is not None:
            return b""
        try:
            return self._file.read(size)
        except BaseException as failure:
            self._failure = failure
            return b""

    def raise_failure(self, name: str) -> None:
        """Raise what was raised while FFmpeg read, an AudioError where the disk failed."""
        if isinstance(self._failure, OSError):
            raise AudioError(f"{name}: cannot be read ({_reason(self._failure)}); try again.") from self._failure
        if self._failure is not None:
            raise self._failure
