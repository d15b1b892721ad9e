"""Lhotse manifests in and out: recordings, supervisions and cuts as JSON Lines (github.com/lhotse-speech/lhotse).

    Recording     a sound file: id, sources, sampling_rate, num_samples, duration, channel_ids
    Supervision   a labelled stretch of it: id, recording_id, start, duration, channel, speaker, custom
    MonoCut       any stretch, with its recording and the supervisions inside; their start counts from the cut's

A clip is a supervision. What lhotse has no field for (label, group, recording, corpus, ...) is written under `custom`
by our names and read from there; manifests of others lack it, and `Unsaid` says it instead. Only files on disk are
read, and what changes the sound (transforms, mixed cuts, one channel of several) is refused: a clip is heard as its
file holds it. Lhotse itself is not needed.

Hugging Face's AudioFolder in and out: sound files beside a metadata.csv or metadata.jsonl, one folder per split.

    folder/train/metadata.csv        file_name,label,group,...      (huggingface.co/docs/datasets/audio_dataset)
    folder/train/000001.wav

Each file is a clip. label and group are needed and may have other names in the table; other columns by our names are
read, the rest is left alone. A folder's name is its split, "validation" our dev; a metadata file at the top may hold
clips of any split. The `datasets` library is not needed.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import soundfile

from listenwell.data.audio import SAMPLE_RATE_HZ, Extent, load_waveform, measure_extent, pcm_sha256
from listenwell.data.clip import Clip, Label
from listenwell.data.manifest import READ_CLIP_COLUMNS, TIME_COLUMNS, build_clips, table_records, timed_rows
from listenwell.data.tables import NO_NAMES, JsonLine, Row, read_json_lines, write_json_lines, write_rows
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder

METADATA = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
NOT_OF_FILES = ("path", "start_s", "duration_s", "channel")
COLUMNS = (FILE_NAME, *(field.name for field in fields(Clip) if field.name not in NOT_OF_FILES))
REQUIRED = (FILE_NAME, "label", "group")
PLACES = tuple(column for column in TIME_COLUMNS if not column.startswith("duration"))
DEV, VALIDATION = "dev", "validation"


def read_audio_folder(folder: Path, names: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of the folder, split by split; names: our column -> the name it has in the metadata.

    Without a clip_id or recording column both are the file's path below `folder`. Raises ManifestError.
    """
    places = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())] if folder.is_dir() else []
    tables = [place / name for place in places for name in METADATA if (place / name).is_file()]
    if not tables:
        raise ManifestError(
            f"{folder}: no {' or '.join(METADATA)} in it or in a folder of it; give the folder of an AudioFolder data "
            "set whose metadata says label and group."
        )
    rows = (
        _clip_row(row, table.parent, folder)
        for table in tables
        for row in timed_rows(table, table_records(table), COLUMNS, REQUIRED, names)
    )
    return build_clips(rows, folder)


def _clip_row(row: Row, place: Path, folder: Path) -> Row:
    """Return the metadata's row as a row of clips.csv. A duration alone describes the file, which is the clip."""
    split = place.name if place != folder else ""
    times = TIME_COLUMNS if any(map(row.has, PLACES)) else ()
    said = {column: row.text(column) for column in (*COLUMNS[1:], *times)}
    said["path"] = os.path.join(split, row.required(FILE_NAME))
    said["split"] = row.identifier("split") or (DEV if split == VALIDATION else split)
    return Row(row.file, row.line, dict.fromkeys((*TIME_COLUMNS, "channel"), "") | said, row.decimal_comma)


def write_audio_folder(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write every clip as a WAV file (16 kHz mono, 32-bit float: the samples to the bit) with its metadata.csv.

    A folder that is there is replaced: `storage.destination` asks before. Raises AudioError for a clip that cannot
    be read.
    """
    with atomic_folder(folder) as temporary:
        rows: dict[Path, list[list[str]]] = {}
        for n, clip in enumerate(clips, start=1):
            samples = load_waveform(clip)
            place = temporary / _folder_name(clip)
            place.mkdir(exist_ok=True)
            name = f"{n:06d}.wav"
            soundfile.write(place / name, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
            hashed = replace(clip, pcm_sha256=pcm_sha256(samples))
            rows.setdefault(place, []).append([name, *(getattr(hashed, column) for column in COLUMNS[1:])])
            on_progress("writing", n, len(clips))
        for place, those in rows.items():
            write_rows(place / METADATA[0], COLUMNS, those)


def _folder_name(clip: Clip) -> str:
    """Return the folder of the clip's split, "" for the top."""
    if not re.fullmatch(r"[\w-]*", clip.split):
        raise ManifestError(
            f"clip '{clip.clip_id}': its split '{clip.split}' cannot name a folder; use letters, digits, - and _."
        )
    return VALIDATION if clip.split == DEV else clip.split


RECORDINGS, SUPERVISIONS = "recordings.jsonl.gz", "supervisions.jsonl.gz"
CUSTOM_COLUMNS = (
    "label", "group", "recording", "corpus", "licence", "category", "split", "pcm_sha256", "origin",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What a manifest of others does not say. label: None where every supervision says it under custom.

    group_by: the speaker of a supervision, or its recording; audio_root: where relative paths begin.
    """

    label: Label | None = None
    group_by: Literal["speaker", "recording"] = "speaker"
    corpus: str = ""
    licence: str = ""
    audio_root: Path = Path()


@dataclass(frozen=True, slots=True)
class _SoundFile:
    recording_id: str
    path: Path
    channels: frozenset[int]


def read_lhotse(recordings: Path, supervisions: Path, unsaid: Unsaid) -> list[Clip]:
    """Return one clip per supervision, in their order. Raises ManifestError with file and line."""
    files = {}
    for line in read_json_lines(recordings):
        file = _read_recording(line, unsaid.audio_root)
        if file.recording_id in files:
            raise line.fault(f"the recording '{file.recording_id}' stands twice; keep one of them.")
        files[file.recording_id] = file
    rows = (_supervision_row(line, files, unsaid) for line in read_json_lines(supervisions))
    return build_clips(rows, supervisions.parent)


def read_lhotse_cuts(cuts: Path, unsaid: Unsaid) -> list[Clip]:
    """Return one clip per supervision of every cut, no longer than the cut, and one per cut without supervisions.

    Raises ManifestError with file and line.
    """
    rows = (row for line in read_json_lines(cuts) for row in _cut_rows(line, unsaid))
    return build_clips(rows, cuts.parent)


def write_lhotse(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write recordings.jsonl.gz and supervisions.jsonl.gz into `folder`; audio stays where it is, by absolute path.

    Raises AudioError when the header of a recording cannot be read.
    """
    n_channels: dict[Path, int] = {}
    records = []
    for n_done, clip in enumerate(clips, start=1):
        if clip.path not in n_channels:
            extent = measure_extent(clip.path, must_be_whole=False)
            n_channels[clip.path] = extent.n_channels
            records.append(_recording_record(clip.path, extent))
        on_progress("reading headers", n_done, len(clips))
    write_json_lines(folder / RECORDINGS, records)
    write_json_lines(folder / SUPERVISIONS, _supervision_records(clips, n_channels))


def _recording_record(path: Path, extent: Extent) -> dict[str, Any]:
    channels = list(range(extent.n_channels))
    return {
        "id": path.as_posix(),
        "sources": [{"type": "file", "channels": channels, "source": path.as_posix()}],
        "sampling_rate": extent.rate_hz,
        "num_samples": extent.n_frames,
        "duration": extent.seconds,
        "channel_ids": channels,
    }


def _supervision_records(clips: Iterable[Clip], n_channels: dict[Path, int]) -> Iterator[dict[str, Any]]:
    for clip in clips:
        record: dict[str, Any] = {
            "id": clip.clip_id,
            "recording_id": clip.path.as_posix(),
            "start": clip.start_s,
            "duration": clip.duration_s,
            "channel": 0 if n_channels[clip.path] == 1 else list(range(n_channels[clip.path])),
            "custom": {column: getattr(clip, column) for column in CUSTOM_COLUMNS},
        }
        yield {**record, "speaker": clip.group} if clip.label == "SPEECH" else record


def _read_recording(line: JsonLine, audio_root: Path) -> _SoundFile:
    recording_id = str(line.required("id"))
    if line.optional("transforms"):
        raise line.fault(f"the recording '{recording_id}' has transforms; save the changed sound to a file first.")
    sources = [line.part(source) for source in line.items("sources")]
    kinds = [source.required("type") for source in sources]
    if kinds != ["file"]:
        raise line.fault(
            f"the recording '{recording_id}' has the sources {', '.join(map(str, kinds)) or 'none'}; one file was "
            "expected, save the sound to one."
        )
    path = audio_root / str(sources[0].required("source"))
    return _SoundFile(recording_id, path.absolute(), _channels(sources[0], "channels"))


def _channels(line: JsonLine, name: str) -> frozenset[int]:
    value = line.required(name)
    channels = value if isinstance(value, list) else [value]
    if not all(isinstance(channel, int) for channel in channels):
        raise line.fault(
            f"'{name}' is {json.dumps(value)[:60]}, the number of a channel or a list of them was expected."
        )
    return frozenset(channels)


def _supervision_row(line: JsonLine, files: dict[str, _SoundFile], unsaid: Unsaid) -> Row:
    recording_id = str(line.required("recording_id"))
    if recording_id not in files:
        raise line.fault(f"the recording '{recording_id}' is not in the recordings; give the manifest that has it.")
    return _row(line, files[recording_id], line.number("start"), line.number("duration"), unsaid)


def _cut_rows(line: JsonLine, unsaid: Unsaid) -> Iterator[Row]:
    kind = line.required("type")
    if kind != "MonoCut":
        raise line.fault(
            f"the cut '{line.required('id')}' is a {kind}; a MonoCut was expected, save it to a file first."
        )
    file = _read_recording(line.part(line.required("recording")), unsaid.audio_root)
    cut_start_s, cut_s = line.number("start"), line.number("duration")
    supervisions = line.items("supervisions") if line.optional("supervisions") else []
    if not supervisions:
        yield _row(line, file, cut_start_s, cut_s, unsaid)
    for supervision in map(line.part, supervisions):
        start_s = max(0.0, supervision.number("start"))
        end_s = min(cut_s, supervision.number("start") + supervision.number("duration"))
        channel = supervision.optional("channel")
        within = {**supervision.values, "channel": line.required("channel") if channel is None else channel}
        yield _row(line.part(within), file, cut_start_s + start_s, end_s - start_s, unsaid)


def _row(line: JsonLine, file: _SoundFile, start_s: float, duration_s: float, unsaid: Unsaid) -> Row:
    """Return the clip on `line` as a row of clips.csv."""
    clip_id = str(line.required("id"))
    if _channels(line, "channel") != file.channels:
        raise line.fault(
            f"'{clip_id}' is one channel of several in {file.path}; a clip is the mean of all channels, save this "
            "one as a mono file."
        )
    said = line.part(line.optional("custom") or {})
    cells = {column: said.values[column] if column in said.values else None for column in CUSTOM_COLUMNS}
    speaker = line.optional("speaker") if unsaid.group_by == "speaker" else file.recording_id
    cells["label"] = cells["label"] or unsaid.label
    cells["group"] = cells["group"] or speaker
    if not cells["label"]:
        raise line.fault(f"'{clip_id}' has no label under custom; say which label the whole manifest has.")
    if not cells["group"]:
        raise line.fault(f"'{clip_id}' has no speaker, so its group is unknown; group by recording instead.")
    cells["recording"] = cells["recording"] or file.recording_id
    cells["corpus"] = cells["corpus"] or unsaid.corpus
    cells["licence"] = cells["licence"] or unsaid.licence
    cells |= {"clip_id": clip_id, "path": file.path, "start_s": repr(start_s), "duration_s": repr(duration_s)}
    texts = {column: "" if value is None else str(value) for column, value in cells.items()}
    return Row(line.file, line.line, dict.fromkeys(READ_CLIP_COLUMNS, "") | texts, decimal_comma=False)
