"""Find the sound files of a folder, and say what was left out and why. One rule for detect, init and corpora.

Links are followed, a folder that leads back into itself once. Hidden files and folders (".git", macOS's "._take1.wav")
are left out, and so is what is no sound by its name or its first bytes. Whether a file can be read shows when it is.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    left_out = []
    if hidden:
        verb = "file is" if len(hidden) == 1 else "files are"
        left_out.append(f"{root}: {len(hidden)} {verb} hidden and left out, the first: {hidden[0].relative_to(root)}.")
    if lost:
        verb = "link leads to no file and is" if len(lost) == 1 else "links lead to no file and are"
        left_out.append(f"{root}: {len(lost)} {verb} left out, the first: {lost[0].relative_to(root)}.")
    if others:
        counted = sorted(Counter(path.suffix or path.name for path in others).items(), key=lambda item: -item[1])
        kinds = ", ".join(f"{n} {kind}" for kind, n in counted[:MOST_KINDS]) + ", ..." * (len(counted) > MOST_KINDS)
        verb = "file is" if len(others) == 1 else "files are"
        left_out.append(f"{root}: {len(others)} {verb} no sound by name or first bytes and left out ({kinds}).")
    return FoundFiles(paths, left_out)


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
