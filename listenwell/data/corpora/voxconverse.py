"""VoxConverse: who speaks when in videos, 16 kHz (Chung, Huh, Nagrani, Afouras & Zisserman 2020, arXiv:2007.01216).

    {dev,test}/<file>.rttm     SPEAKER <file> 1 <start> <duration> <NA> <NA> spk00 <NA> <NA>
    audio/<file>.wav           dev; the test archive calls the folder voxconverse_test_wav

Labels count from spk00 in every file, so a speaker is (file, label) and never the same in two files: the group is
"<file>/<label>". Clips lie inside turns of one speaker, at least MARGIN_S from every turn of another. What lies
between turns is not a clip: nobody labelled it, and there is music and applause with voices in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.data.clip import Clip
from listenwell.data.corpora.corpus import (
    APART_S,
    Corpus,
    Prepared,
    PrepareSettings,
    Unreadable,
    check_share,
    cut_stretches,
    find_files,
    name_clip,
    read_lengths,
)
from listenwell.data.fetch.download import RemoteFile
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE = "voxconverse", "VoxConverse"
LICENCE = "CC-BY-4.0"
MARGIN_S = 0.25
"""The least distance of a clip from another speaker's turn."""
COMMIT = "24bf60be297701cd7e4ef18550c6d390c1b87365"
AUDIO_URL = "https://www.robots.ox.ac.uk/~vgg/data/voxconverse/data"

Span = tuple[float, float]
"""(start, end) in seconds."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of an RTTM: someone speaks in a file. label: the speaker's name in this file only."""

    file: str
    start_s: float
    end_s: float
    label: str


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return SPEECH clips of single-speaker stretches (`Corpus.prepare`).

    A recording whose RTTM is faulty, or that is annotated but missing, is quarantined; a part without any audio is
    left out with a note.
    """
    copies: dict[str, list[Path]] = {}
    for path in find_files(root, "*.wav"):
        copies.setdefault(path.stem, []).append(path)
    if not copies:
        raise ManifestError(f"{root}: looked for audio/<file>.wav and found none; unpack the audio of {TITLE} there.")
    turns, faulty, notes = _read_parts(root, settings.parts, copies)
    for file in turns:
        if len(copies[file]) > 1:
            raise ManifestError(
                f"{copies[file][1]}: {copies[file][0]} has the same name; one recording per name was expected, give "
                f"the folder of one copy of {TITLE}."
            )
    recordings = {file: copies[file][0] for file in turns}
    lengths_s, unreadable = read_lengths(list(recordings.values()), on_progress, 1.0)
    quarantine = [*faulty, *unreadable]
    check_share(quarantine, len(turns) + len(faulty))
    clips: list[Clip] = []
    speakers: set[str] = set()
    for file, spoken in turns.items():
        if recordings[file] in lengths_s:
            clips += cut_recording(recordings[file], lengths_s[recordings[file]], spoken, settings)
            speakers |= {f"{file}/{turn.label}" for turn in spoken}
    if silent := speakers - {clip.group for clip in clips}:
        notes.append(f"{len(silent)} of {len(speakers)} speakers never speak alone for long enough; they give no clip.")
    return Prepared(clips, quarantine=quarantine, notes=notes)


def _read_parts(
    root: Path, wanted: Sequence[str], recordings: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, list[Turn]], list[Unreadable], list[str]]:
    """Return the turns of every recording that is there, what is faulty or missing, and notes."""
    parts: dict[str, list[Path]] = {}
    for path in find_files(root, "*.rttm"):
        parts.setdefault(path.parent.name, []).append(path)
    missing = [part for part in wanted if part not in parts]
    if missing or not parts:
        raise ManifestError(
            f"{root}: looked for {missing[0] if missing else '{dev,test}'}/<file>.rttm and found none; unpack the "
            f"annotations of {TITLE} there."
        )
    turns: dict[str, list[Turn]] = {}
    faulty, notes = [], []
    for part in sorted(wanted or parts):
        if not any(path.stem in recordings for path in parts[part]):
            notes.append(f"{part}: none of its {len(parts[part])} recordings is there; it was left out.")
            continue
        for path in parts[part]:
            try:
                spoken = read_rttm(path)
            except ManifestError as error:
                faulty.append(Unreadable(path, str(error)))
                continue
            for turn in spoken:
                turns.setdefault(turn.file, []).append(turn)
    known = {file: spoken for file, spoken in turns.items() if file in recordings}
    faulty += [
        Unreadable(root / f"{file}.wav", f"{file}: an RTTM has turns of it, but there is no {file}.wav; unpack it.")
        for file in turns
        if file not in recordings
    ]
    return known, faulty, notes


def read_rttm(path: Path) -> list[Turn]:
    """Return the turns of an RTTM file, in its order. Raises ManifestError naming the line that cannot be used."""
    turns = []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        words = text.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            file, start_s, length_s, label = words[1], float(words[3]), float(words[4]), words[7]
        except (IndexError, ValueError):
            start_s = math.nan
        if not (0 <= start_s < math.inf and 0 <= length_s < math.inf):
            raise ManifestError(
                f"{path} line {line}: '{text.strip()}' has no usable times; 'SPEAKER <file> 1 <start> <duration> <NA> "
                "<NA> <label> <NA> <NA>' with times of 0 or more seconds was expected, correct or remove the file."
            )
        turns.append(Turn(file, start_s, start_s + length_s, label))
    return turns


def cut_recording(path: Path, length_s: float, turns: Sequence[Turn], settings: PrepareSettings) -> list[Clip]:
    """Return the clips of every speaker of one recording, `length_s` seconds long."""
    return [
        Clip(
            clip_id=name_clip(NAME, f"{path.stem}/{label}", start_s),
            path=path,
            start_s=start_s,
            duration_s=duration_s,
            label="SPEECH",
            group=f"{path.stem}/{label}",
            recording=path.stem,
            corpus=NAME,
            licence=LICENCE,
        )
        for label in sorted({turn.label for turn in turns})
        for start_s, duration_s in choose_stretches(find_alone(turns, label, length_s), settings)
    ]


def find_alone(turns: Sequence[Turn], label: str, length_s: float) -> list[Span]:
    """Return the spans in which `label` speaks and nobody else does within MARGIN_S, up to the recording's end."""
    spoken = merge_spans([(turn.start_s, min(turn.end_s, length_s)) for turn in turns if turn.label == label])
    others = merge_spans([(turn.start_s - MARGIN_S, turn.end_s + MARGIN_S) for turn in turns if turn.label != label])
    return subtract_spans(spoken, others)


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Return the union of `spans`: in order, none empty, none touching another."""
    merged: list[Span] = []
    for start_s, end_s in sorted(spans):
        if end_s <= start_s:
            continue
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return merged


def subtract_spans(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """Return what of `spans` lies in none of `holes`; both as merge_spans returns them."""
    left = []
    for start_s, end_s in spans:
        for hole_start_s, hole_end_s in holes:
            if start_s < hole_start_s < end_s:
                left.append((start_s, hole_start_s))
            if hole_start_s < end_s:
                start_s = max(start_s, hole_end_s)
        if start_s < end_s:
            left.append((start_s, end_s))
    return left


def choose_stretches(alone: Sequence[Span], settings: PrepareSettings) -> list[Span]:
    """Return (start, length) of at most clips_per_recording stretches, the longest first choice, APART_S apart."""
    stretches = [stretch for span in alone for stretch in cut_stretches(*span, settings)]
    chosen: list[Span] = []
    for start_s, clip_s in sorted(stretches, key=lambda stretch: (-stretch[1], stretch[0])):
        if len(chosen) < settings.clips_per_recording and all(
            start_s >= other_s + other_clip_s + APART_S or other_s >= start_s + clip_s + APART_S
            for other_s, other_clip_s in chosen
        ):
            chosen.append((start_s, clip_s))
    return sorted(chosen)


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="SPEECH in conversation, many speakers, real noise",
    citation="Chung, Huh, Nagrani, Afouras & Zisserman 2020, Spot the conversation, arXiv:2007.01216",
    licence=LICENCE,
    home_page="https://github.com/joonson/voxconverse",
    hours=63.8,
    archives=(
        RemoteFile("voxconverse_dev_wav.zip", f"{AUDIO_URL}/voxconverse_dev_wav.zip"),
        RemoteFile("voxconverse_test_wav.zip", f"{AUDIO_URL}/voxconverse_test_wav.zip"),
        RemoteFile(f"{COMMIT}.tar.gz", f"https://github.com/joonson/voxconverse/archive/{COMMIT}.tar.gz"),
    ),
    layout="{dev,test}/*.rttm, audio/*.wav",
    draws_on=("youtube",),
    prepare=prepare,
)
