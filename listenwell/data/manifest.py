"""Read and write the tables of clips and backgrounds (`clips.csv`, `backgrounds.csv`, ...).

One row per record, one column per field of `Clip` or `Background`, in the CSV of `listenwell.data.csv_rows`. Paths
are relative to the table's own folder, so corpus and table move together, and may not leave it; absolute paths
are allowed. Reading stops at the first fault with a ManifestError: file, line, found, expected, next step.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import soundfile

from listenwell.data.clip import BACKGROUND_KINDS, Background, Clip
from listenwell.data.csv_rows import Row, UniqueColumn, read_rows, write_rows

CLIP_COLUMNS = tuple(field.name for field in fields(Clip))
BACKGROUND_COLUMNS = tuple(field.name for field in fields(Background))
REQUIRED_CLIP_COLUMNS = ("clip_id", "path", "label", "group")
REQUIRED_BACKGROUND_COLUMNS = ("background_id", "path", "kind", "group")


def read_manifest(path: Path) -> list[Clip]:
    """Return the clips of the table at `path`, in its order, with absolute audio paths.

    clip_id, path, label and group are required. start_s defaults to 0, duration_s to the rest of the recording
    (read from the file's header), recording to the path as `write_manifest` names it, everything else to "". Raises
    ManifestError.
    """
    return build_clips(read_rows(path, CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS), path.parent)


def build_clips(rows: Iterable[Row], folder: Path) -> list[Clip]:
    """Return one clip per row, as `read_manifest` does; relative paths start at `folder`. Raises ManifestError."""
    folder, clips = _absolute(folder), []
    clip_ids, splits = UniqueColumn("clip_id"), _GroupSplits()
    for row in rows:
        audio_path = _audio_path(row, folder)
        start_s = row.seconds("start_s") if row.has("start_s") else 0.0
        clip = Clip(
            clip_id=clip_ids.add(row),
            path=audio_path,
            start_s=start_s,
            duration_s=_duration_s(row, audio_path, start_s),
            label=row.label(),
            group=row.required("group"),
            recording=row.text("recording") or _cell(audio_path, folder),
            corpus=row.text("corpus"),
            licence=row.text("licence"),
            category=row.text("category"),
            split=row.text("split"),
            pcm_sha256=row.text("pcm_sha256"),
            origin=row.text("origin"),
        )
        splits.add(row, clip.group, clip.split)
        clips.append(clip)
    return clips


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write `clips` to the table at `path` atomically; audio below its folder is named relative to it."""
    _write_records(path, CLIP_COLUMNS, clips)


def read_backgrounds(path: Path) -> list[Background]:
    """Return the backgrounds of the table at `path`; background_id, path, kind and group are required.

    Raises ManifestError.
    """
    folder, backgrounds = _absolute(path.parent), []
    background_ids, splits = UniqueColumn("background_id"), _GroupSplits()
    for row in read_rows(path, BACKGROUND_COLUMNS, REQUIRED_BACKGROUND_COLUMNS):
        audio_path = _audio_path(row, folder)
        background = Background(
            background_id=background_ids.add(row),
            path=audio_path,
            duration_s=_duration_s(row, audio_path, start_s=0.0),
            kind=row.one_of("kind", BACKGROUND_KINDS),
            group=row.required("group"),
            corpus=row.text("corpus"),
            licence=row.text("licence"),
            split=row.text("split"),
            pcm_sha256=row.text("pcm_sha256"),
            origin=row.text("origin"),
        )
        splits.add(row, background.group, background.split)
        backgrounds.append(background)
    return backgrounds


def write_backgrounds(path: Path, backgrounds: Iterable[Background]) -> None:
    """Write `backgrounds` to the table at `path` atomically, paths as in `write_manifest`."""
    _write_records(path, BACKGROUND_COLUMNS, backgrounds)


def _write_records(path: Path, columns: Sequence[str], records: Iterable[Clip | Background]) -> None:
    folder = _absolute(path.parent)
    write_rows(path, columns, ([_cell(getattr(each, column), folder) for column in columns] for each in records))


def _audio_path(row: Row, folder: Path) -> Path:
    """Return the absolute path of the row's recording; relative paths start at `folder` and stay below it."""
    text = row.required("path")
    if os.path.isabs(text):
        return Path(text)
    if os.path.normpath(text).split(os.sep)[0] == os.pardir:
        raise row.fault(
            f"the path '{text}' lies outside the table's folder {folder}; move the recording below that folder "
            "or write its absolute path."
        )
    return _absolute(folder / text)


def _duration_s(row: Row, audio_path: Path, start_s: float) -> float:
    """Return the row's duration, or where its cell is empty what the recording holds after `start_s`."""
    if row.has("duration_s"):
        duration_s = row.seconds("duration_s")
        if duration_s == 0:
            raise row.fault("duration_s is 0; give a length above 0, or leave the cell empty for the whole recording.")
        return duration_s
    recording_s = _recording_s(row, audio_path)
    if recording_s <= start_s:
        raise row.fault(
            f"start_s is {start_s:g} but {audio_path} lasts {recording_s:g} s; correct start_s or remove the row."
        )
    return recording_s - start_s


def _recording_s(row: Row, audio_path: Path) -> float:
    try:
        header = soundfile.info(audio_path)
    except (soundfile.LibsndfileError, OSError) as error:
        found = "cannot be read as sound" if os.path.exists(audio_path) else "does not exist"
        raise row.fault(
            f"duration_s is empty and {audio_path} {found}, so its length is unknown; "
            "correct the path, fill in duration_s or remove the row."
        ) from error
    return float(header.frames) / float(header.samplerate)


class _GroupSplits:
    """Remembers the split of every group and refuses a group that stands in two of them."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, int]] = {}

    def add(self, row: Row, group: str, split: str) -> None:
        known_split, known_line = self.seen.setdefault(group, (split, row.line))
        if known_split != split:
            raise row.fault(
                f"group '{group}' is in split '{split}' here and in '{known_split}' in line {known_line}; a group "
                "must be in one split only, or a test would hear voices from training. Correct the split column."
            )


def _cell(value: str | float | Path, folder: Path) -> str:
    if isinstance(value, Path):
        path = _absolute(value)
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
    return value if isinstance(value, str) else repr(float(value))


def _absolute(path: Path) -> Path:
    """Return `path` absolute and without "..", symbolic links untouched."""
    return Path(os.path.abspath(path))
