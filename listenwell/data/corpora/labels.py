"""Recordings labelled by other tools: label files beside them, or Common Voice's tables.

    talk.wav, talk.txt         Audacity's label track: start, end, text, separated by tabs
    talk.wav, talk.TextGrid    Praat's interval tiers, in the long or the short form
    talk.wav, *.rttm           SPEAKER lines of the file `talk` are SPEECH

A text is a label where a folder of that label could have its name ("speech", "noise", ...), or else its tier's
name is; other texts are counted and left out. What nobody labelled is no clip, and NONSPEECH under SPEECH is SPEECH.
A stretch is a clip, a longer one than PrepareSettings().clip_s gives some of its clips. All clips of a recording are of
one group: they know each other.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from listenwell.data.clip import LABELS, Clip, Label
from listenwell.data.corpora.corpus import Prepared, PrepareSettings, cut_stretches, find_files, read_lengths
from listenwell.data.corpora.folders import CORPUS_NAME, LABEL_FOLDERS, group_of, label_at
from listenwell.data.corpora.voxconverse import Span, merge_spans, read_rttm, subtract_spans
from listenwell.data.sound_files import find_sound_files
from listenwell.data.tables import table_records
from listenwell.errors import ConfigError, ManifestError

COMMON_VOICE = {"client_id", "path", "sentence"}
"""Columns that tell a table of Common Voice (Ardila et al. 2020, arXiv:1912.06670); its sounds lie in clips/."""
_TRACK_LINE = re.compile(r"(\d+(?:[.,]\d+)?)\t(\d+(?:[.,]\d+)?)(?:\t(.*))?")
_TEXTGRID_VALUE = re.compile(r'"((?:[^"]|"")*)"|(?<![\w\[."])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w\]])')

Stretch = tuple[float, float, str, str]
"""(start_s, end_s, text, tier)"""


def read_label_files(root: Path, group_by: str) -> Prepared:
    """Return the clips of all recordings below `root` that have a label file; none where there are no such files.

    group_by: as in `read_folders`. Recordings in folders that name a label are left to that. Raises ManifestError for a
    file that cannot be used.
    """
    sounds = [path for path in find_sound_files(root).paths if label_at(root, path) is None]
    files = dict[str, list[Path]]()
    for path in find_files(root, "*"):
        files.setdefault(path.suffix.lower(), []).append(path)
    turns = [turn for path in files.get(".rttm", []) for turn in read_rttm(path)]
    spoken = {turn.file: list[Stretch]() for turn in turns}
    for turn in turns:
        spoken[turn.file].append((turn.start_s, turn.end_s, "speech", ""))
    same = [path for path in sounds if path.stem in spoken and Counter(p.stem for p in sounds)[path.stem] > 1]
    if same:
        raise ManifestError(
            f"{same[0]} and {same[1]}: an RTTM file names '{same[0].stem}', and both are called so; rename one of them."
        )
    beside = {sound.with_suffix(""): list[Stretch]() for sound in sounds}
    for suffix, read in ((".txt", read_track), (".textgrid", read_textgrid)):
        for path in files.get(suffix, []):
            if path.with_suffix("") in beside:
                beside[path.with_suffix("")] += read(path)
    all_found = {path: [*beside[path.with_suffix("")], *spoken.get(path.stem, [])] for path in sounds}
    found = {path: stretches for path, stretches in all_found.items() if stretches}
    lengths_s, quarantine = read_lengths(list(found), lambda *_: None, 1.0)
    clips, unknown, n_points = list[Clip](), Counter[str](), 0
    for path, length_s in lengths_s.items():
        names, spans = path.relative_to(root).parts, {label: list[Span]() for label in LABELS}
        for start_s, end_s, text, tier in found[path]:
            label = label_of(text) or label_of(tier)
            if label is None:
                unknown[text] += 1
            elif start_s < min(end_s, length_s):
                spans[label].append((start_s, min(end_s, length_s)))
            else:
                n_points += 1
        speech, others = (merge_spans(spans[label]) for label in LABELS)
        name, group = path.relative_to(root).with_suffix("").as_posix(), group_of(names, -1, group_by)
        for label, of_label in zip(LABELS, (speech, subtract_spans(others, speech)), strict=True):
            for start_s, duration_s in pieces(of_label):
                clip_id = f"{name}@{round(1000 * start_s)}-{round(1000 * (start_s + duration_s))}"
                clips.append(Clip(clip_id, path, start_s, duration_s, label, group, name, CORPUS_NAME, ""))
    notes = [f"{len(lengths_s)} recordings have label files; all clips of one are of one group."] if lengths_s else []
    if quarantine:
        notes.append(f"{len(quarantine)} others with label files cannot be read, the first: {quarantine[0].reason}")
    if unknown:
        shown = ", ".join(f"'{text}' ({n})" for text, n in unknown.most_common(3))
        notes.append(f"{unknown.total()} stretches name no label and were left out, most often {shown}.")
    if n_points:
        notes.append(f"{n_points} labels have no length within their recording and were left out.")
    return Prepared(clips, quarantine=quarantine, notes=notes)


def label_of(text: str) -> Label | None:
    """Return the label whose folder could have this name, None where none could."""
    return LABEL_FOLDERS.get("_".join(text.lower().split()))


def pieces(spans: Sequence[Span]) -> Iterator[Span]:
    """(start, length) of the clips: the span itself, or some of a long one."""
    settings = PrepareSettings()
    for start_s, end_s in spans:
        is_short = end_s - start_s <= settings.clip_s
        yield from [(start_s, end_s - start_s)] if is_short else cut_stretches(start_s, end_s, settings)


def read_track(path: Path) -> Iterator[Stretch]:
    """Yield the labels of Audacity's label track; nothing of a text that begins otherwise. Raises ManifestError."""
    lines = [line for line in _text_of(path).splitlines() if line.strip() and not line.startswith("\\")]
    matches = [_TRACK_LINE.fullmatch(line) for line in lines]
    for number, match in enumerate(matches if matches and matches[0] else []):
        if match is None:
            raise ManifestError(
                f"{path}: '{lines[number]}' is no label; start, end and text between tabs were expected."
            )
        start, end, text = match.groups()
        yield float(start.replace(",", ".")), float(end.replace(",", ".")), (text or "").strip(), ""


def read_textgrid(path: Path) -> Iterator[Stretch]:
    """Yield the intervals with a text of all interval tiers of Praat's TextGrid. Raises ManifestError."""
    # both forms hold the same values in the same order; the long one has names and numbers in brackets between them
    values = iter(match[1] if match[2] is None else match[2] for match in _TEXTGRID_VALUE.finditer(_text_of(path)))
    try:
        if [next(values), next(values)] != ["ooTextFile", "TextGrid"]:
            raise ValueError("it does not begin as a TextGrid")
        _, _, n_tiers = (float(next(values)) for _ in range(3))
        for _ in range(int(n_tiers)):
            kind, tier, _, _, n_marks = (next(values) for _ in range(5))
            for _ in range(int(n_marks)):
                start, end = next(values), next(values)
                if kind == "IntervalTier" and (text := next(values).replace('""', '"').strip()):
                    yield float(start), float(end), text, tier
    except (StopIteration, RuntimeError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read as a TextGrid ({error or 'it ends early'}).") from error


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")


def read_common_voice(table: Path, column: str = "client_id") -> Prepared:
    """Return a SPEECH clip for each row of a table of Common Voice, grouped by `column`. Raises ConfigError."""
    rows = [dict(zip(row.names, row.cells, strict=True)) for row in table_records(table) if row.cells is not None]
    if rows and column not in rows[0]:
        raise ConfigError(f"--group {column}: {table} has no such column; it has {', '.join(rows[0])}.")
    speakers = {table.parent / "clips" / row["path"]: row[column] for row in rows}
    lengths_s, quarantine = read_lengths(list(speakers), lambda *_: None, 1.0)
    clips = [
        Clip(path.stem, path, 0.0, length_s, "SPEECH", speakers[path], path.stem, "common_voice", "CC0-1.0")
        for path, length_s in lengths_s.items()
    ]
    notes = [f"{len(quarantine)} of its recordings are missing or broken, and were left out."] if quarantine else []
    return Prepared(clips, quarantine=quarantine, notes=notes)
