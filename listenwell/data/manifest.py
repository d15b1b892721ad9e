"""Read and write the tables of clips and backgrounds (`clips.csv`, `backgrounds.csv`, and tables of others).

One row per record, one column per field of `Clip` or `Background`, read by `listenwell.data.tables`. Paths are relative
to the table's own folder, so corpus and table move together, and may not leave it; absolute paths are allowed.

Times of a clip are understood in every table, since a row whose times went unread would be taken for a whole recording:
a word for start, end or duration, in seconds unless a unit stands behind it (begin, endTime, "End Time (s)", start_ms).
`offset` is the end beside onset (DCASE) and the start beside duration (NeMo). What looks like a time and is not
understood is refused. Of start, end and duration two are enough, and three must agree. Other names (speaker,
audio_filepath, ...) are proposed only: a study reads what its data.columns says.
"""

import os
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from listenwell.data.audio import measure_extent
from listenwell.data.clip import BACKGROUND_KINDS, Background, Clip
from listenwell.data.tables import ADD_COLUMN, NO_NAMES, Row, read_rows, write_rows
from listenwell.errors import AudioError, ConfigError, ManifestError

_WORDS = {
    **dict.fromkeys("start begin beg onset from tmin xmin t0".split(), "start"),
    **dict.fromkeys("end stop finish to until tmax xmax t1".split(), "end"),
    **dict.fromkeys("duration dur".split(), "duration"),
    "offset": "offset",
}
_UNITS = {
    **dict.fromkeys("s sec secs second seconds".split(), "s"),
    **dict.fromkeys("ms msec msecs millis millisecond milliseconds".split(), "ms"),
    "": "s",
}
_WORD, _UNIT = "|".join(_WORDS), "|".join(_UNITS)
_TIME = re.compile(
    rf"(?:clip|segment|seg|chunk|window|turn|utt|speech|event|time|t)?({_WORD})(?:time|timestamp|t|at|in)?({_UNIT})"
)
_LIKE_TIME = re.compile(
    rf"(?!from|to)(?:{_WORD}|time|timestamp|length|len|interval|timespan|anfang|beginn|ende|dauer|d[eé]but|dur[eé]e|inicio|"
    rf"duraci[oó]n|inizio|durata)(?:time)?(?:{_UNIT})|seconds|secs|milliseconds|millis|msecs?"
)
_COUNT = re.compile("(?:n|num)?(?:samples|frames)")

_Lines = dict[Hashable, int]
"""Of what stands in a table, the line in which it stands first."""
TIME_COLUMNS = tuple(f"{role}_{unit}" for role in ("start", "end", "duration") for unit in ("s", "ms"))
CLIP_COLUMNS = tuple(field.name for field in fields(Clip))
BACKGROUND_COLUMNS = tuple(field.name for field in fields(Background))
READ_CLIP_COLUMNS = tuple(dict.fromkeys((*CLIP_COLUMNS, *TIME_COLUMNS)))
"""What a table of clips may hold: their fields, and their times in other words."""
REQUIRED_CLIP_COLUMNS = ("path", "label", "group")
_AGREE_S = 0.02
"""Start, end and duration of a clip may differ by what is lost where times are rounded to hundredths."""
OBVIOUS_NAMES: Mapping[str, Collection[str]] = {
    "path": "path audio file wav sound filename fname filepath audiofilepath audiopath audiofile audiofilename wavpath "
    "wavfile wavfilename soundfile beginfile beginpath".split(),
    "label": "label class target isspeech".split(),
    "group": "group groupid speaker spk speakerid spkid speakername talker client clientid".split(),
    "clip_id": "clipid utt uttid utteranceid segmentid id".split(),
    "licence": "licence license".split(),
    "recording": "recording recordingid".split(),
    **{column: [column] for column in ("corpus", "category", "split", "origin")},
}
"""Column of a clip -> the letters of names that mean it in the tables of others."""


def read_manifest(path: Path, columns: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of the table at `path`, in its order, with absolute audio paths.

    columns: column of a clip -> its name in the table, as in data.columns: {"group": "spk"}. path, label and group are
    required. clip_id defaults to the path as the table has it, with the start in milliseconds behind it where that is
    not 0 ("talk.wav@1500"); start_s to 0, duration_s to the rest of the recording, recording to the path as
    `write_manifest` names it, everything else to "". Raises ManifestError for the first fault of the table, ConfigError
    for a mapped column that no clip has, or when pyarrow is missing.
    """
    _require_known(columns)
    advice = (
        "say which one is meant with data.columns in a config, such as {group: speaker} ('listenwell init "
        f"{path.name}' writes one where the names are obvious), or add the column"
    )
    folder, clips = _absolute(path.parent), []
    lines_of_ids, lines_of_stretches, splits = _Lines(), _Lines(), dict[str, tuple[str, int]]()
    for row in _timed_rows(path, CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS, columns, advice):
        sound = _read_sound(row, folder, splits)
        clips.append(
            Clip(
                clip_id=_name_clip(row, sound["start_s"], sound["duration_s"], lines_of_ids, lines_of_stretches),
                label=row.label(),
                recording=row.identifier("recording") or _cell(sound["path"], folder),
                category=row.text("category"),
                channel=_channel(row),
                **sound,
            )
        )
    return clips


def _require_known(columns: Mapping[str, str]) -> None:
    """Raise ConfigError for a column that no clip has, and for one of the table that is to mean two."""
    for column, name in columns.items():
        if column not in READ_CLIP_COLUMNS:
            raise ConfigError(
                f"data.columns: a clip has no column '{column}'; expected some of {', '.join(READ_CLIP_COLUMNS)}."
            )
        if list(columns.values()).count(name) > 1:
            raise ConfigError(f"data.columns: '{name}' is named twice; give every column of the table one meaning.")


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write `clips` to the table at `path` atomically; audio below its folder is named relative to it.

    The column `channel` is there where a clip is one channel of several.
    """
    clips = list(clips)
    is_mean = all(clip.channel is None for clip in clips)
    _write_records(path, [column for column in CLIP_COLUMNS if column != "channel" or not is_mean], clips)


def read_backgrounds(path: Path) -> list[Background]:
    """Return the backgrounds of the table at `path`; background_id, path, kind and group are required.

    Raises ManifestError.
    """
    folder, backgrounds = _absolute(path.parent), []
    lines_of_ids, splits = _Lines(), dict[str, tuple[str, int]]()
    for row in _timed_rows(path, BACKGROUND_COLUMNS, ("background_id", "path", "kind", "group")):
        sound = _read_sound(row, folder, splits)
        if (start_s := sound.pop("start_s")) > 0:
            raise row.fault(f"the background starts at {start_s:g} s, 0 was expected; cut it into a file of its own.")
        background_id = _take_id(row, "background_id", row.required("background_id"), lines_of_ids)
        backgrounds.append(Background(background_id=background_id, kind=row.one_of("kind", BACKGROUND_KINDS), **sound))
    return backgrounds


def write_backgrounds(path: Path, backgrounds: Iterable[Background]) -> None:
    """Write `backgrounds` to the table at `path` atomically, paths as in `write_manifest`."""
    _write_records(path, BACKGROUND_COLUMNS, backgrounds)


def _write_records(path: Path, columns: Sequence[str], records: Iterable[Clip | Background]) -> None:
    folder = _absolute(path.parent)
    write_rows(path, columns, ([_cell(getattr(record, column), folder) for column in columns] for record in records))


def _read_sound(row: Row, folder: Path, splits: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """Return the fields that clips and backgrounds share; splits: group -> its split, and the line that says so."""
    group, split = row.required("group"), row.identifier("split")
    path = _audio_path(row, folder)
    start_s, duration_s = _stretch_s(row, path)
    known_split, known_line = splits.setdefault(group, (split, row.line))
    if known_split != split:
        raise row.fault(
            f"group '{group}' is in split '{split}' here and in '{known_split}' in line {known_line}; correct the "
            "split column: a group in two splits would be tested on what it trained."
        )
    return {
        "path": path,
        "start_s": start_s,
        "duration_s": duration_s,
        "group": group,
        "split": split,
        **{column: row.text(column) for column in ("corpus", "licence")},
        **{column: row.identifier(column) for column in ("pcm_sha256", "origin")},
    }


def _audio_path(row: Row, folder: Path) -> Path:
    """Return the absolute path of the row's recording; relative paths start at `folder` and stay below it.

    A path that Windows wrote is read with / for its backslashes, where no file has a backslash in its name.
    """
    text = row.required("path")
    if "\\" in text and not os.path.exists(folder / text):
        text = text.replace("\\", "/")
    if os.path.isabs(text):
        return Path(text)
    if os.path.normpath(text).split(os.sep)[0] == os.pardir:
        raise row.fault(
            f"the path '{text}' lies outside the table's folder; move the recording below it, or write it absolute."
        )
    return _absolute(folder / text)


def _stretch_s(row: Row, audio_path: Path) -> tuple[float, float]:
    """Return the start and duration of the row's clip: to the end of the recording where neither says how long."""
    start_s, end_s, duration_s = _time_s(row, "start") or 0.0, _time_s(row, "end"), _time_s(row, "duration")
    if duration_s == 0:
        raise row.fault("duration_s is 0; give a length above 0, or leave the cell empty for the whole recording.")
    if end_s is not None and end_s <= start_s:
        raise row.fault(f"the clip ends at {end_s:g} s but starts at {start_s:g} s; correct the times.")
    if end_s is None:
        return start_s, duration_s or _rest_s(row, audio_path, start_s)
    length_s = round(end_s - start_s, 9)
    if duration_s is not None and abs(length_s - duration_s) > _AGREE_S:
        raise row.fault(
            f"start {start_s:g} s and end {end_s:g} s are {length_s:g} s apart, but the duration is {duration_s:g} s; "
            "correct the times, or name in data.columns the two that count."
        )
    return start_s, duration_s or length_s


def _time_s(row: Row, role: str) -> float | None:
    if row.has(f"{role}_s"):
        return row.seconds(f"{role}_s")
    return row.seconds(f"{role}_ms") / 1000 if row.has(f"{role}_ms") else None


def _channel(row: Row) -> int | None:
    """The number of the clip's channel, None for the mean of all."""
    if not row.has("channel"):
        return None
    if not row.text("channel").isdecimal():
        raise row.fault(
            f"channel is '{row.text('channel')}'; a number from 0 was expected, or nothing for the mean: correct it."
        )
    return int(row.text("channel"))


def _rest_s(row: Row, audio_path: Path, start_s: float) -> float:
    """What follows start_s, also of a recording that is broken off: reading its clips says so."""
    try:
        recording_s = measure_extent(audio_path, must_be_whole=False).seconds
    except AudioError as error:
        problem = "cannot be read as sound" if os.path.exists(audio_path) else "does not exist"
        raise row.fault(
            f"duration_s is empty and {audio_path} {problem}; correct the path, fill in duration_s or remove the row."
        ) from error
    if recording_s <= start_s:
        raise row.fault(f"start_s is {start_s:g} but {audio_path} lasts {recording_s:g} s; correct it.")
    return recording_s - start_s


def _name_clip(row: Row, start_s: float, duration_s: float, ids: _Lines, stretches: _Lines) -> str:
    """Return the row's clip_id, made of path and times where it has none; one stretch may not stand twice unnamed."""
    path, channel, is_whole = row.text("path"), row.text("channel"), not any(map(row.has, TIME_COLUMNS))
    if is_whole or not row.has("clip_id"):
        line = stretches.setdefault((path, start_s, duration_s, channel), row.line)
        if line != row.line:
            raise row.fault(
                f"the same stretch of '{path}' already stands in line {line}; remove one of the rows, or say with "
                "data.columns which columns hold the times, such as {start_s: FROM, end_s: TO}."
            )
    if row.has("clip_id"):
        return _take_id(row, "clip_id", row.required("clip_id"), ids)
    take, start_ms = path + (f"#{channel}" if channel else ""), 1000 * start_s
    name = f"{take}@{start_ms:.12g}" if start_s else take
    if name in ids:
        name = f"{take}@{start_ms:.12g}-{start_ms + 1000 * duration_s:.12g}"
    return _take_id(row, "clip_id", name, ids)


def _take_id(row: Row, column: str, name: str, lines: _Lines) -> str:
    if lines.setdefault(name, row.line) != row.line:
        raise row.fault(
            f"the {column} '{name}' already stands in line {lines[name]}; every row needs its own, rename one of them."
        )
    return name


def _cell(value: str | float | Path | None, folder: Path) -> str:
    if value is None or isinstance(value, int):
        return "" if value is None else str(value)
    if isinstance(value, Path):
        path = _absolute(value)
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
    return value if isinstance(value, str) else repr(float(value))


def _absolute(path: Path) -> Path:
    """Return `path` absolute and without "..", symbolic links untouched."""
    return Path(os.path.abspath(path))


# What the columns mean


def obvious_columns(header: Sequence[str]) -> dict[str, list[str]]:
    """Return column of a clip -> the names in `header` that mean it, its own name alone where that is there."""
    meant = {column: [name for name in header if _letters(name) in names] for column, names in OBVIOUS_NAMES.items()}
    return {column: [column] if column in names else names for column, names in meant.items() if names}


def _timed_rows(
    path: Path,
    known: Sequence[str],
    required: Sequence[str],
    columns: Mapping[str, str] = NO_NAMES,
    advice: str = ADD_COLUMN,
) -> Iterator[Row]:
    """Yield the rows of a table of sounds, their times under TIME_COLUMNS whatever the table calls them.

    columns: known column -> the table's name, as in data.columns; advice as in `read_rows`. Raises ManifestError.
    """

    def name_columns(place: str, header: Sequence[str]) -> Mapping[str, str]:
        # a table of our own, such as the test set drawn from the table of others
        if {*header, "channel"} == {*known, "channel"}:
            return NO_NAMES
        return {**columns, **time_columns(place, header, columns)}

    return read_rows(path, (*dict.fromkeys((*known, *TIME_COLUMNS)),), required, name_columns, advice)


def time_columns(place: str, header: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Return column of TIME_COLUMNS -> its name in `header`, for times that `named` (data.columns) does not name.

    Who tells the end or the duration has named the length: other names for it are left alone, under a key that says so.
    Raises ManifestError, beginning with `place`, for names that are ambiguous or not understood.
    """
    roles = {column.split("_")[0] for column in named if column in TIME_COLUMNS}
    by_role: dict[str, list[tuple[str, str]]] = {"start": [], "end": [], "duration": [], "offset": []}
    strange = []
    for name in header:
        match = _TIME.fullmatch(_letters(name))
        if match and name not in named.values():
            by_role[_WORDS[match[1]]].append((name, _UNITS[match[2]]))
        elif any(map(_LIKE_TIME.fullmatch, _words(name))) and name not in named.values():
            strange.append(name)
    offsets = by_role.pop("offset")
    if any("onset" in _letters(name) for name in header):
        by_role["end"] += offsets
    elif by_role["duration"] and not (by_role["start"] or by_role["end"] or roles):
        by_role["start"] = offsets
    else:
        strange += [name for name, _ in offsets]
    length_is_told = bool(roles & {"end", "duration"})
    names: dict[str, str] = {}
    for role, columns in by_role.items():
        if role in roles or (role != "start" and length_is_told):
            names |= {f"left alone: {name}": name for name, _ in columns}
        elif len(columns) > 1:
            name, unit = columns[0]
            raise ManifestError(
                f"{place}: the columns {' and '.join(repr(column) for column, _ in columns)} both say the {role} of a "
                f"clip; remove one, or name the one that counts with data.columns: {{{role}_{unit}: {name}}}."
            )
        else:
            names |= {f"{role}_{unit}": name for name, unit in columns}
    roles |= {column.split("_")[0] for column in names}
    if "start" in roles and not roles & {"end", "duration"}:  # a count of samples says how long the clip is
        strange += [name for name in header if any(map(_COUNT.fullmatch, _words(name)))]
    if strange and not ("start" in roles and roles & {"end", "duration"}):
        raise ManifestError(
            f"{place}: the column '{strange[0]}' looks like a time of the clips, but whether it is their start, end or "
            f"duration, and in which unit, cannot be told; name it in data.columns as one of {', '.join(TIME_COLUMNS)} "
            "(samples are to be turned into seconds first), or remove the column."
        )
    return names


def _letters(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.lower())


def _words(name: str) -> list[str]:
    """Return the words of a name such as "Start sample", start_sample or startSample, in lower case."""
    return re.split(r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
