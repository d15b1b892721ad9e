"""Which files of a folder are sounds, and where the sounds begin that one file holds end to end.

One rule for detect, init and corpora: links are followed, a folder that leads back into itself once; hidden files and
what is no sound by its name or its first bytes are left out.

Files joined end to end (WAV, FLAC, chained Ogg: RFC 3533) are told apart here, since libsndfile reads the first alone,
and so does FFmpeg of WAV; of Ogg and FLAC whose parts have other rates FFmpeg stops or gives a wrong length. Positions
are bytes.
"""

import functools
import io
import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .spx .mp3 .mp2 .mpga .aiff .aif .aifc .au .snd .gsm .w64 .rf64 .caf .sph .nist "
    ".voc .m4a .m4b .mp4 .m4v .mov .3gp .3g2 .aac .adts .ac3 .eac3 .dts .wma .asf .wmv .webm .weba .mka .mkv .avi .flv "
    ".amr .awb .ape .wv .tta .tak .mpg .mpeg .mts .m2ts .vob .ra .rm .alac .thd .nut".split()
)
MOST_KINDS = 6
# where a format's mark stands, for files whose name says nothing
_MARKS = (
    (0, b"RIFF"), (0, b"RF64"), (0, b"riff"), (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"), (0, b"FORM"), (0, b".snd"),
    (0, b"caff"), (4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (0, b"NIST_1A"), (0, b"#!AMR"), (0, b"\xff\xfb"),
    (0, b"\xff\xf3"), (0, b"\xff\xf1"), (0, b"wvpk"), (0, b"MAC "), (0, b"TTA1"), (0, b"0&\xb2u"),
    (0, b"\x0bw"), (0, b"\x7f\xfe\x80\x01"), (0, b"FLV\x01"), (0, b"\xff\xfd"), (0, b"\0\0\x01\xba"), (0, b"Creative"),
    (0, b".RMF"), (188, b"G"),
)  # fmt: skip
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
"""The marker, and the head of the STREAMINFO block, which is always 34 bytes long."""
_OGG_BEGINS = 0x02


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The sound files of a folder, sorted, and a sentence for each reason why others were left out."""

    paths: list[Path]
    left_out: list[str]


def find_sound_files(root: Path) -> FoundFiles:
    """Return the sound files below `root`."""
    paths, hidden, lost, others = list[Path](), list[Path](), list[Path](), list[Path]()
    for path in walk(root):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            hidden += [path] if path.suffix.lower() in SUFFIXES else []
        elif not path.exists():
            lost.append(path)
        else:
            (paths if path.is_file() and (path.suffix.lower() in SUFFIXES or _has_mark(path)) else others).append(path)
    left_out = [
        f"{root}: {_count(found)} {why} and left out, the first: {found[0].relative_to(root)}."
        for found, why in ((hidden, "hidden"), (lost, "unreachable (a link leads nowhere)"))
        if found
    ]
    if others:
        counted = Counter(path.suffix or path.name for path in others).most_common()
        kinds = ", ".join(f"{n} {kind}" for kind, n in counted[:MOST_KINDS]) + ", ..." * (len(counted) > MOST_KINDS)
        left_out.append(f"{root}: {_count(others)} no sound by name or first bytes and left out ({kinds}).")
    return FoundFiles(paths, left_out)


def _count(paths: list[Path]) -> str:
    return "1 file is" if len(paths) == 1 else f"{len(paths)} files are"


def walk(root: Path) -> Iterator[Path]:
    """Yield what is no folder below `root`, sorted; links are followed, but to no folder that led there."""
    yield from sorted(_below(root, frozenset()))


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it may not be read
        yield folder
        return
    for entry in entries:
        if entry.is_dir():
            yield from _below(folder / entry.name, above | {real})
        else:
            yield folder / entry.name


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return False
    # a transport stream has the same letter every 188 bytes
    return any(head[at : at + len(mark)] == mark and (at < 188 or head[:1] == mark) for at, mark in _MARKS)


# Files joined end to end


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the files begin that one holds, and where the last one ends; the first begins at 0.

    is_joined: they are several, or something else follows the only one. is_cut: the last one breaks off (known of Ogg
    alone). share_after: of the bytes, those that follow the end which the header of a WAV tells. is_mpeg: it is an MP3
    or its like, with tags or without.
    """

    bounds: tuple[int, ...] = ()
    is_joined: bool = False
    is_cut: bool = False
    share_after: float = 0.0
    is_mpeg: bool = False


def find_parts(source: Path | BinaryIO) -> Parts:
    """Return the parts of a file or of a stream that can seek, which is left at its start."""
    if isinstance(source, Path):
        state = os.stat(source)
        return _parts_of_path(os.fsencode(source), state.st_size, state.st_mtime_ns)
    try:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parts_of_bytes(content)
    except (OSError, ValueError, AttributeError):  # no file of the system, such as io.BytesIO
        source.seek(0)
        parts = _parts_of_bytes(source.read())
        source.seek(0)
        return parts


@functools.lru_cache(maxsize=4096)
def _parts_of_path(path: bytes, size: int, modified_ns: int) -> Parts:
    """Remembered as long as size and time stay: clips of one recording ask again and again."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _parts_of_bytes(content)


def _parts_of_bytes(content: bytes | mmap.mmap) -> Parts:
    head = content[:4]
    if (
        head[:3] == b"ID3"
        and (after := _id3_end(content))
        and content[after : after + 4] in (b"RIFF", b"fLaC", b"OggS")
    ):
        return Parts((after, len(content)), is_joined=True)
    if head == b"OggS":
        return _ogg_parts(content)
    if head == b"fLaC":
        starts = sorted(start for marker in _FLAC_STARTS for start in _find_all(content, marker, 8))
        return Parts((0, *starts, len(content)), is_joined=bool(starts))
    if head == b"RIFF":
        return _riff_parts(content)
    return Parts(is_mpeg=head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"))


def _find_all(content: bytes | mmap.mmap, marker: bytes, start: int) -> Iterator[int]:
    at = content.find(marker, start)
    while at >= 0:
        yield at
        at = content.find(marker, at + len(marker))


def _id3_end(content: bytes | mmap.mmap) -> int:
    """Where an ID3v2 tag ends: 10 bytes and a size of four times seven bits."""
    size = content[6:10]
    return 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=False)) if len(size) == 4 else 0


def _riff_parts(content: bytes | mmap.mmap) -> Parts:
    """A WAV file follows another where the chunks of the first end; a size that was never filled in tells nothing."""
    starts, at, is_told = [0], 12, True
    while at + 8 <= len(content) and is_told:
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"RIFF" and content[at + 8 : at + 12] == b"WAVE":
            starts.append(at)
            at += 12
        elif name.isascii() and name.decode("ascii").isprintable():
            is_told = name != b"data" or size > 0
            at += 8 + size + size % 2
        else:
            break
    n_after = max(0, len(content) - at) if is_told else 0
    return Parts((*starts, len(content)), is_joined=len(starts) > 1, share_after=n_after / len(content))


def _ogg_parts(content: bytes | mmap.mmap) -> Parts:
    """Pages: 27 bytes, of which byte 5 holds flags, 6 to 13 a position, 26 the number of segments; sizes; the segments.

    A chain begins anew at a page that begins a stream and follows one that does not; without a position above 0 it
    holds headers only, which libsndfile stumbles over.
    """
    starts, at, begins, begun_at, is_cut = list[int](), 0, True, 0, False
    while 0 <= at < len(content):
        sizes_end = at + 27 + content[at + 26] if at + 27 <= len(content) else len(content) + 1
        end = sizes_end + sum(content[at + 27 : sizes_end])
        if end > len(content):
            is_cut = True
            break
        begun_before, begins = begins, bool(content[at + 5] & _OGG_BEGINS)
        if begins and not begun_before:
            begun_at = at
        holds_sound = int.from_bytes(content[at + 6 : at + 14], "little", signed=True) > 0
        if holds_sound and begun_at not in starts[-1:]:
            starts.append(begun_at)
        # what is no page, such as a tag, is passed over
        at = end if content[end : end + 4] == b"OggS" else content.find(b"OggS", end)
    headers_follow = bool(starts) and begun_at > starts[-1] and not is_cut
    bounds = (*(starts or [0]), begun_at if headers_follow else len(content))
    return Parts(bounds, is_joined=len(bounds) > 2 or headers_follow, is_cut=is_cut)


class Part(io.RawIOBase):
    """The bytes of a file from `start` to `end`, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size, self._at = file, start, end - start, 0

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes; return how many there were."""
        self._file.seek(self._start + self._at)
        content = self._file.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the part."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The place in the part."""
        return self._at

    def readable(self) -> bool:
        """Always."""
        return True

    seekable = readable
