"""MUSAN: music, speech and noise, 109 hours at 16 kHz (Snyder, Chen & Povey 2015, arXiv:1510.08484).

    {music,noise,speech}/<source>/*.wav     music-fma-0000.wav, noise-free-sound-0000.wav, speech-librivox-0000.wav
    music/<source>/ANNOTATIONS              track genres Y|N artist            Y: with vocals
    speech/<source>/ANNOTATIONS             track m|f language
    <part>/<source>/LICENSE                 per track: its name, title, URL and licence; for some sources one sentence

The music of one artist is one group. A speech file is a group of its own unless its LICENSE entry names the reader or
the book. An origin is known only where an entry holds a URL of Freesound or LibriVox; the entry of `noise/free-sound`
is one sentence about all files, so these noises have the origin "musan:<track>", which OpenSLR 28 repeats, and only a
comparison of the sounds themselves can find them in ESC-50.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from listenwell.data.clip import Background, Clip
from listenwell.data.corpora.corpus import Corpus, Prepared, PrepareSettings, cut_clips, find_folder, read_lengths
from listenwell.data.fetch.download import RemoteFile
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE, LANDMARK = "musan", "MUSAN", "music/fma/ANNOTATIONS"
UNSTATED_LICENCE = "see LICENSE of the folder"
_TRACK = re.compile(r"^\W*((?:music|noise|speech)-[a-z0-9-]+-\d+)(?:\.wav)?\b")
_LICENCE = re.compile(r"CC0|CC[ -]BY(?:[ -](?:SA|NC|ND))*(?: \d\.\d)?|public domain", re.IGNORECASE)
_FREESOUND = re.compile(r"freesound\.org/(?:people/[^/\s]+/)?sounds?/(\d+)")
_LIBRIVOX = re.compile(r"librivox\.org/(?:reader/)?([\w-]+)")


@dataclass(frozen=True, slots=True)
class Track:
    """One file and what the texts beside it say. kind: one of BACKGROUND_KINDS; origin: "" where not known."""

    path: Path
    kind: str
    category: str
    group: str
    licence: str
    origin: str


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return clips of the wanted kinds and backgrounds of the others that are wanted (`Corpus.prepare`)."""
    folder = find_folder(root, LANDMARK, TITLE)
    wanted = {*settings.clip_kinds, *settings.background_kinds}
    known, unannotated = read_tracks(folder)
    tracks = [track for track in known if track.kind in wanted]
    lengths_s, quarantine = read_lengths([track.path for track in tracks], on_progress)
    clips: list[Clip] = []
    backgrounds: list[Background] = []
    for track in tracks:
        if track.path not in lengths_s:
            continue
        name, length_s = track.path.stem, lengths_s[track.path]
        if track.kind in settings.clip_kinds:
            whole = Clip(
                clip_id=name,
                path=track.path,
                start_s=0.0,
                duration_s=length_s,
                label="SPEECH" if track.kind == "speech" else "NONSPEECH",
                group=track.group,
                recording=track.path.relative_to(folder).with_suffix("").as_posix(),
                corpus=NAME,
                licence=track.licence,
                category=track.category if track.kind != "vocal_music" else track.kind,
                origin=track.origin,
            )
            clips += cut_clips(whole, settings)
        else:
            backgrounds.append(
                Background(
                    background_id=f"{NAME}/{name}",
                    path=track.path,
                    duration_s=length_s,
                    kind=track.kind,
                    group=track.group,
                    corpus=NAME,
                    licence=track.licence,
                    origin=track.origin,
                )
            )
    notes = [f"{len(unannotated)} music tracks are not in ANNOTATIONS and count as vocal_music."] if unannotated else []
    return Prepared(clips, backgrounds, quarantine=quarantine, notes=notes)


def read_tracks(folder: Path) -> tuple[list[Track], list[str]]:
    """Return every track that is there or is annotated, sorted by path, and the names of music without annotation."""
    tracks, unannotated = [], []
    for source in sorted(path for part in ("music", "noise", "speech") for path in (folder / part).glob("*/")):
        annotations = _read_annotations(source / "ANNOTATIONS")
        entries = _read_entries(source / "LICENSE")
        about_all = entries[""] if len(entries) == 1 else ""
        for name in sorted({path.stem for path in source.glob("*.wav")} | annotations.keys()):
            words = annotations.get(name, [])
            if source.parent.name == "music" and not words:
                unannotated.append(name)
            tracks.append(_describe_track(source / f"{name}.wav", words, entries.get(name, about_all)))
    return tracks, unannotated


def _describe_track(path: Path, words: list[str], entry: str) -> Track:
    """Return the track at `path`, given the words of its annotation after its name and its LICENSE entry."""
    part, source = path.parts[-3:-1]
    stated = _LICENCE.search(entry)
    if (sound := _FREESOUND.search(entry)) is not None:
        origin = f"freesound:{sound[1]}"
    elif (reading := _LIBRIVOX.search(entry)) is not None:
        origin = f"librivox:{reading[1]}"
    else:
        origin = f"musan:{path.stem}" if part == "noise" else ""
    kind, category, group = part, source, path.stem
    if part == "music":
        kind = "music" if words[1:2] == ["N"] else "vocal_music"
        category = words[0] if words else source
        group = f"artist_{words[2]}" if len(words) > 2 else path.stem
    elif part == "speech":
        category = words[1] if len(words) > 1 else source
        group = origin or path.stem
    return Track(path, kind, category, f"{NAME}_{group}", stated[0] if stated else UNSTATED_LICENCE, origin)


def _read_annotations(path: Path) -> dict[str, list[str]]:
    """Return the words after the name of each line. Raises ManifestError for music without Y or N."""
    annotations = {}
    for line, text in enumerate(_lines(path), start=1):
        words = text.split()
        if words and path.parts[-3] == "music" and words[2:3] not in (["Y"], ["N"]):
            raise ManifestError(
                f"{path} line {line}: '{text}' does not say Y or N for vocals; 'track genres Y|N artist' was expected, "
                "unpack the archive again."
            )
        if words:
            annotations[words[0].removesuffix(".wav")] = words[1:]
    return annotations


def _read_entries(path: Path) -> dict[str, str]:
    """Return the text about each track in a LICENSE; what stands before the first one, about all, is called ""."""
    entries, name = {"": ""}, ""
    for text in _lines(path):
        if track := _TRACK.match(text):
            name = track[1]
            entries[name] = ""
        entries[name] += text + "\n"
    return entries


def _lines(path: Path) -> Iterable[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="backgrounds (music, noise); speech of many languages",
    citation="Snyder, Chen & Povey 2015, MUSAN: a music, speech, and noise corpus, arXiv:1510.08484",
    licence="CC BY 4.0, tracks differ",
    home_page="https://www.openslr.org/17/",
    hours=109.0,
    archives=(
        RemoteFile(
            "musan.tar.gz",
            "https://www.openslr.org/resources/17/musan.tar.gz",
            11_086_114_085,
            "md5:0c472d4fc0c5141eca47ad1ffeb2a7df",
        ),
    ),
    layout="{music,noise,speech}/<source>/*.wav, ANNOTATIONS and LICENSE",
    draws_on=("freesound", "librivox"),
    prepare=prepare,
)
