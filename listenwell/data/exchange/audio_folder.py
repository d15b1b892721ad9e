"""Hugging Face's AudioFolder in and out: sound files beside a metadata.csv or metadata.jsonl, one folder per split.

    folder/train/metadata.csv        file_name,label,group,...      (huggingface.co/docs/datasets/audio_dataset)
    folder/train/000001.wav

Each file is a clip. label and group are needed and may have other names in the table; other columns by our names are
read, the rest is left alone. A folder's name is its split, "validation" our dev; a metadata file at the top may hold
clips of any split. The `datasets` library is not needed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import soundfile

from listenwell.atomic_files import atomic_folder
from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.data.column_names import TIME_COLUMNS, timed_rows
from listenwell.data.corpora.table import table_records
from listenwell.data.csv_rows import NO_NAMES, Row, write_rows
from listenwell.data.manifest import build_clips
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

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

    A folder that is there is replaced: `listenwell.destination` asks before. Raises AudioError for a clip that cannot
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
