"""Data sets of other tools in and out: lhotse's manifests, Hugging Face's AudioFolder. Neither library is needed.

Lhotse (github.com/lhotse-speech/lhotse), as JSON Lines:

    Recording     a sound file: id, sources, sampling_rate, num_samples, duration, channel_ids
    Supervision   a labelled stretch of it: id, recording_id, start, duration, channel, speaker, custom
    MonoCut       any stretch, with its recording and the supervisions inside; their start counts from the cut's

A clip is a supervision. What lhotse has no field for (label, group, recording, corpus, ...) is written under `custom`
by our names and read from there; manifests of others lack it, and `Unsaid` says it instead. Only files on disk are
read, and what changes the sound (transforms, mixed cuts, one channel of several) is refused.

AudioFolder: sound files beside a metadata.csv or metadata.jsonl, one folder per split.

    folder/train/metadata.csv        file_name,label,group,...      (huggingface.co/docs/datasets/audio_dataset)
    folder/train/000001.wav

Each file is a clip. label and group are needed and may have other names in the table. A folder's name is its split,
"validation" our dev; a metadata file at the top may hold clips of any split.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import soundfile
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from listenwell.data.audio import SAMPLE_RATE_HZ, Extent, load_waveform, measure_extent, pcm_sha256
from listenwell.data.clip import Clip, Label
from listenwell.data.manifest import READ_CLIP_COLUMNS, TIME_COLUMNS, build_clips, timed_rows
from listenwell.data.tables import NO_NAMES, Row, read_json_lines, write_json_lines, write_rows
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder

RECORDINGS, SUPERVISIONS = "recordings.jsonl.gz", "supervisions.jsonl.gz"
CUSTOM_COLUMNS = (
    "label", "group", "recording", "corpus", "licence", "category", "split", "pcm_sha256", "origin",
)  # fmt: skip
METADATA = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
NOT_OF_FILES = ("path", "start_s", "duration_s", "channel")
COLUMNS = (FILE_NAME, *(field.name for field in fields(Clip) if field.name not in NOT_OF_FILES))
DEV, VALIDATION = "dev", "validation"


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


class _Read(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


Kind = TypeVar("Kind", bound=_Read)


class _Source(_Read):
    type: str
    channels: list[int]
    source: str


class _Recording(_Read):
    id: str
    sources: list[_Source]
    transforms: Any = None


class _Supervision(_Read):
    id: str
    recording_id: str = ""
    start: FiniteFloat
    duration: FiniteFloat
    channel: int | list[int] | None = None
    speaker: str | None = None
    custom: dict[str, str | float | None] | None = None


class _Cut(_Read):
    id: str
    type: str
    start: FiniteFloat
    duration: FiniteFloat
    channel: int | list[int]
    supervisions: list[_Supervision] | None = None
    recording: Any


def read_lhotse(recordings: Path, supervisions: Path, unsaid: Unsaid) -> list[Clip]:
    """Return one clip per supervision, in their order. Raises ManifestError with file and line."""
    by_id: dict[str, _Recording] = {}
    for line, values in read_json_lines(recordings):
        place = _place(recordings, line)
        recording = _read_recording(place, values)
        if recording.id in by_id:
            raise place.fault(f"the recording '{recording.id}' stands twice; keep one of them.")
        by_id[recording.id] = recording
    return build_clips(_supervision_rows(supervisions, by_id, unsaid), supervisions.parent)


def _supervision_rows(path: Path, recordings: Mapping[str, _Recording], unsaid: Unsaid) -> Iterator[Row]:
    for line, values in read_json_lines(path):
        place = _place(path, line)
        said = _parse(place, _Supervision, values)
        if said.recording_id not in recordings:
            raise place.fault(
                f"the recording '{said.recording_id}' is not in the recordings; give the manifest that has it."
            )
        yield _clip_row(place, said, recordings[said.recording_id], unsaid)


def read_lhotse_cuts(cuts: Path, unsaid: Unsaid) -> list[Clip]:
    """Return one clip per supervision of every cut, no longer than the cut, and one per cut without supervisions.

    Raises ManifestError with file and line.
    """
    return build_clips(_cut_rows(cuts, unsaid), cuts.parent)


def _cut_rows(path: Path, unsaid: Unsaid) -> Iterator[Row]:
    for line, values in read_json_lines(path):
        place = _place(path, line)
        if values.get("type") != "MonoCut":
            raise place.fault(
                f"the cut '{values.get('id')}' is a {values.get('type')}; a MonoCut was expected, save it to a file "
                "first."
            )
        cut = _parse(place, _Cut, values)
        recording = _read_recording(place, cut.recording)
        whole = _Supervision(id=cut.id, start=0, duration=cut.duration)
        for said in cut.supervisions or [whole]:
            start_s = max(0.0, said.start)
            inside = said.model_copy(
                update={
                    "start": cut.start + start_s,
                    "duration": min(cut.duration, said.start + said.duration) - start_s,
                    "channel": cut.channel if said.channel is None else said.channel,
                }
            )
            yield _clip_row(place, inside, recording, unsaid)


def _place(path: Path, line: int) -> Row:
    """A row without cells: faults of this line."""
    return Row(path, line, {}, decimal_comma=False)


def _parse(place: Row, kind: type[Kind], values: Any) -> Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name, value = ".".join(map(str, first["loc"])), str(first["input"])[:60]
        raise place.fault(f"'{name}' is {value!r}: {first['msg']}; correct the line.") from error


def _read_recording(place: Row, values: Any) -> _Recording:
    recording = _parse(place, _Recording, values)
    if recording.transforms:
        raise place.fault(f"the recording '{recording.id}' has transforms; save the changed sound to a file first.")
    kinds = [source.type for source in recording.sources]
    if kinds != ["file"]:
        raise place.fault(
            f"the recording '{recording.id}' has the sources {', '.join(kinds) or 'none'}; one file was expected, save "
            "the sound to one."
        )
    return recording


def _clip_row(place: Row, said: _Supervision, recording: _Recording, unsaid: Unsaid) -> Row:
    """Return the clip of a supervision as a row of clips.csv."""
    (source,) = recording.sources
    path = (unsaid.audio_root / source.source).absolute()
    channels = said.channel if isinstance(said.channel, list) else [said.channel]
    if {*channels} != {*source.channels}:
        raise place.fault(
            f"'{said.id}' is one channel of several in {path}; a clip is the mean of all channels, save this one as a "
            "mono file."
        )
    custom = said.custom or {}
    cells = {column: custom.get(column) for column in CUSTOM_COLUMNS}
    cells["label"] = cells["label"] or unsaid.label
    cells["group"] = cells["group"] or (said.speaker if unsaid.group_by == "speaker" else recording.id)
    if not cells["label"]:
        raise place.fault(f"'{said.id}' has no label under custom; say which label the whole manifest has.")
    if not cells["group"]:
        raise place.fault(f"'{said.id}' has no speaker, so its group is unknown; group by recording instead.")
    cells["recording"] = cells["recording"] or recording.id
    cells["corpus"] = cells["corpus"] or unsaid.corpus
    cells["licence"] = cells["licence"] or unsaid.licence
    cells |= {"clip_id": said.id, "path": str(path), "start_s": said.start, "duration_s": said.duration}
    texts = {column: "" if value is None else str(value) for column, value in cells.items()}
    return replace(place, cells=dict.fromkeys(READ_CLIP_COLUMNS, "") | texts)


def write_lhotse(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write recordings.jsonl.gz and supervisions.jsonl.gz into `folder`; audio stays where it is, by absolute path.

    Raises AudioError when the header of a recording cannot be read.
    """
    recordings: dict[Path, dict[str, Any]] = {}
    supervisions = []
    for n_done, clip in enumerate(clips, start=1):
        if clip.path not in recordings:
            recordings[clip.path] = _recording_record(clip.path, measure_extent(clip.path, must_be_whole=False))
        channels = recordings[clip.path]["channel_ids"]
        speaker = {"speaker": clip.group} if clip.label == "SPEECH" else {}
        supervisions.append(
            {
                "id": clip.clip_id,
                "recording_id": clip.path.as_posix(),
                "start": clip.start_s,
                "duration": clip.duration_s,
                "channel": channels if len(channels) > 1 else 0,
                "custom": {column: getattr(clip, column) for column in CUSTOM_COLUMNS},
                **speaker,
            }
        )
        on_progress("reading headers", n_done, len(clips))
    write_json_lines(folder / RECORDINGS, recordings.values())
    write_json_lines(folder / SUPERVISIONS, supervisions)


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


def read_audio_folder(folder: Path, names: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of the folder, split by split; names: our column -> the name it has in the metadata.

    Without a clip_id or recording column both are the file's path below `folder`. Raises ManifestError.
    """
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
    tables = [place / name for place in places for name in METADATA if (place / name).is_file()]
    if not tables:
        raise ManifestError(
            f"{folder}: no {' or '.join(METADATA)} in it or in a folder of it; give the folder of an AudioFolder data "
            "set whose metadata says label and group."
        )
    rows = (
        _file_row(row, table.parent.name if table.parent != folder else "")
        for table in tables
        for row in timed_rows(table, COLUMNS, (FILE_NAME, "label", "group"), names)
    )
    return build_clips(rows, folder)


def _file_row(row: Row, split: str) -> Row:
    """Return the metadata's row as a row of clips.csv. A duration alone describes the file, which is the clip."""
    is_stretch = any(row.has(column) for column in TIME_COLUMNS if not column.startswith("duration"))
    cells = {column: row.text(column) for column in (*COLUMNS[1:], *(TIME_COLUMNS if is_stretch else ()))}
    cells["path"] = os.path.join(split, row.required(FILE_NAME))
    cells["split"] = row.identifier("split") or (DEV if split == VALIDATION else split)
    return Row(row.file, row.line, dict.fromkeys((*TIME_COLUMNS, "channel"), "") | cells, row.decimal_comma)


def write_audio_folder(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write every clip as a WAV file (16 kHz mono, 32-bit float: the samples to the bit) with its metadata.csv.

    A folder that is there is replaced: `storage.destination` asks before. Raises AudioError for a clip that cannot
    be read.
    """
    with atomic_folder(folder) as temporary:
        rows: dict[str, list[list[str]]] = {}
        for n, clip in enumerate(clips, start=1):
            if not re.fullmatch(r"[\w-]*", clip.split):
                raise ManifestError(
                    f"clip '{clip.clip_id}': its split '{clip.split}' cannot name a folder; use letters, digits, - and "
                    "_."
                )
            samples = load_waveform(clip)
            split = VALIDATION if clip.split == DEV else clip.split
            (temporary / split).mkdir(exist_ok=True)
            name = f"{n:06d}.wav"
            soundfile.write(temporary / split / name, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
            hashed = replace(clip, pcm_sha256=pcm_sha256(samples))
            rows.setdefault(split, []).append([name, *(getattr(hashed, column) for column in COLUMNS[1:])])
            on_progress("writing", n, len(clips))
        for split, of_split in rows.items():
            write_rows(temporary / split / METADATA[0], COLUMNS, of_split)
