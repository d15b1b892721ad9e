"""Which files of a folder are sounds, and what the bytes of a file say that its decoders do not.

One rule for detect, init and corpora: links are followed, a folder that leads back into itself once; hidden files and
what is no sound by its name are left out.

Several sounds in one file: of chained Ogg (RFC 3533) and joined FLAC libsndfile reads the first alone, and FFmpeg all;
of joined WAV both read the first alone, so it is refused. Positions are bytes.
"""

import functools
import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .spx .mp3 .mp2 .mpga .aiff .aif .aifc .au .snd .gsm .w64 .rf64 .caf .sph .nist "
    ".voc .m4a .m4b .mp4 .m4v .mov .3gp .3g2 .aac .adts .ac3 .eac3 .dts .wma .asf .wmv .webm .weba .mka .mkv .avi .flv "
    ".amr .awb .ape .wv .tta .tak .mpg .mpeg .mts .m2ts .vob .ra .rm .alac .thd .nut".split()
)
MOST_KINDS = 6
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
            (paths if path.is_file() and path.suffix.lower() in SUFFIXES else others).append(path)
    left_out = [
        f"{root}: {_count(found)} {why} and left out, the first: {found[0].relative_to(root)}."
        for found, why in ((hidden, "hidden"), (lost, "unreachable (a link leads nowhere)"))
        if found
    ]
    if others:
        counted = Counter(path.suffix or path.name for path in others).most_common()
        kinds = ", ".join(f"{n} {kind}" for kind, n in counted[:MOST_KINDS]) + ", ..." * (len(counted) > MOST_KINDS)
        left_out.append(f"{root}: {_count(others)} no sound by name and left out ({kinds}).")
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


# What the bytes say


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the sound of a file lies, and how.

    end: where its bytes end, if headers without sound follow. is_chained: several sounds follow one another. is_cut: it
    breaks off (known of Ogg alone). share_after: of the bytes, those that follow the end which the header of a WAV
    tells. is_mpeg: it is an MP3 or its like, with tags or without. fault: why it cannot be read to its end, or "".
    """

    end: int | None = None
    is_chained: bool = False
    is_cut: bool = False
    share_after: float = 0.0
    is_mpeg: bool = False
    fault: str = ""


def find_layout(source: Path | BinaryIO) -> Layout:
    """Return the layout of a file or of a stream that can seek, which is left at its start."""
    if isinstance(source, Path):
        state = os.stat(source)
        return _layout_of_path(os.fsencode(source), state.st_size, state.st_mtime_ns)
    try:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _layout_of_bytes(content)
    except (OSError, ValueError, AttributeError):  # no file of the system, such as io.BytesIO
        source.seek(0)
        layout = _layout_of_bytes(source.read())
        source.seek(0)
        return layout


@functools.lru_cache(maxsize=4096)
def _layout_of_path(path: bytes, size: int, modified_ns: int) -> Layout:
    """Remembered as long as size and time stay: clips of one recording ask again and again."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _layout_of_bytes(content)


def _layout_of_bytes(content: bytes | mmap.mmap) -> Layout:
    head = content[:4]
    if head[:3] == b"ID3":  # libsndfile reads WAV and FLAC behind such a tag
        after = _id3_end(content)
        return Layout(is_mpeg=content[after : after + 4] not in (b"RIFF", b"fLaC"))
    if head == b"OggS":
        return _ogg_layout(content)
    if head == b"fLaC":
        return _flac_layout(content)
    if head == b"RIFF":
        return _riff_layout(content)
    return Layout(is_mpeg=head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def _id3_end(content: bytes | mmap.mmap) -> int:
    """Where an ID3v2 tag ends: 10 bytes and a size of four times seven bits."""
    size = content[6:10]
    return 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=False)) if len(size) == 4 else 0


def _flac_layout(content: bytes | mmap.mmap) -> Layout:
    """Rate and channels stand in bytes 18 to 20; FFmpeg takes those of the first for all."""
    forms = [content[18:21]]
    for marker in _FLAC_STARTS:
        at = 0
        while (at := content.find(marker, at + 8)) >= 0:
            forms.append(content[at + 18 : at + 21])
    fault = "holds FLAC files of several rates joined end to end, cut them apart" if len(set(forms)) > 1 else ""
    return Layout(is_chained=len(forms) > 1, fault=fault)


def _riff_layout(content: bytes | mmap.mmap) -> Layout:
    """Another WAV follows where the chunks of the first end; a size that was never filled in tells nothing."""
    at, is_told = 12, True
    while at + 8 <= len(content) and is_told:
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"RIFF" and content[at + 8 : at + 12] == b"WAVE":
            return Layout(fault=f"holds WAV files joined end to end, the second from byte {at} on, cut them apart")
        if not (name.isascii() and name.decode("ascii").isprintable()):
            break
        is_told = name != b"data" or size > 0
        at += 8 + size + size % 2
    return Layout(share_after=max(0, len(content) - at) / len(content) if is_told else 0.0)


def _ogg_layout(content: bytes | mmap.mmap) -> Layout:
    """Pages: 27 bytes, of which byte 5 holds flags, 6 to 13 a position, 26 the number of segments; sizes; the segments.

    A chain begins anew at a page that begins a stream and follows one that does not; without a position above 0 it
    holds headers only, which libsndfile stumbles over.
    """
    sounding, at, begins, begun_at, is_cut = set[int](), 0, True, 0, False
    while 0 <= at < len(content):
        sizes_end = at + 27 + content[at + 26] if at + 27 <= len(content) else len(content) + 1
        end = sizes_end + sum(content[at + 27 : sizes_end])
        if end > len(content):
            is_cut = True
            break
        begun_before, begins = begins, bool(content[at + 5] & _OGG_BEGINS)
        if begins and not begun_before:
            begun_at = at
        if int.from_bytes(content[at + 6 : at + 14], "little", signed=True) > 0:
            sounding.add(begun_at)
        # what is no page, such as a tag, is passed over
        at = end if content[end : end + 4] == b"OggS" else content.find(b"OggS", end)
    headers_follow = bool(sounding) and begun_at > max(sounding) and not is_cut
    return Layout(begun_at if headers_follow else None, is_chained=len(sounding) > 1, is_cut=is_cut)
