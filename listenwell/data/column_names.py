"""What the columns of a table of others mean, by their names.

Times of a clip are understood in every table, since a row whose times went unread would be heard as a whole recording:
a word for start, end or duration, in seconds unless a unit stands behind it (begin, endTime, "End Time (s)", start_ms).
`offset` is the end beside onset (DCASE) and the start beside duration (NeMo). What looks like a time and is not
understood is refused. Other names (speaker, audio_filepath, ...) are proposed only: a study reads what its
data.columns says.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from listenwell.data.csv_rows import ADD_COLUMN, NO_NAMES, Record, Row, name_rows
from listenwell.errors import ManifestError

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

TIME_COLUMNS = tuple(f"{role}_{unit}" for role in ("start", "end", "duration") for unit in ("s", "ms"))
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


def obvious_columns(header: Sequence[str]) -> dict[str, list[str]]:
    """Return column of a clip -> the names in `header` that mean it, its own name alone where that is there."""
    found = {column: [name for name in header if _letters(name) in names] for column, names in OBVIOUS_NAMES.items()}
    return {column: [column] if column in names else names for column, names in found.items() if names}


def timed_rows(
    path: Path,
    records: Iterable[Record],
    known: Sequence[str],
    required: Sequence[str],
    columns: Mapping[str, str] = NO_NAMES,
    advice: str = ADD_COLUMN,
) -> Iterator[Row]:
    """Yield the rows of a table of sounds, their times under TIME_COLUMNS whatever the table calls them.

    columns: known column -> the table's name, as in data.columns; advice as in `name_rows`. Raises ManifestError.
    """

    def name_columns(place: str, header: Sequence[str]) -> Mapping[str, str]:
        # a table of our own, such as the test set drawn from the table of others
        if {*header, "channel"} == {*known, "channel"}:
            return NO_NAMES
        return {**columns, **time_columns(place, header, columns)}

    return name_rows(path, records, (*dict.fromkeys((*known, *TIME_COLUMNS)),), required, name_columns, advice)


def time_columns(place: str, header: Sequence[str], told: Mapping[str, str]) -> dict[str, str]:
    """Return column of TIME_COLUMNS -> its name in `header`, for times that `told` (data.columns) does not name.

    Who tells the end or the duration has told the length: other names for it are left alone, under a key that says so.
    Raises ManifestError, beginning with `place`, for names that are ambiguous or not understood.
    """
    roles = {column.split("_")[0] for column in told if column in TIME_COLUMNS}
    found: dict[str, list[tuple[str, str]]] = {"start": [], "end": [], "duration": [], "offset": []}
    strange = []
    for name in header:
        match = _TIME.fullmatch(_letters(name))
        if match and name not in told.values():
            found[_WORDS[match[1]]].append((name, _UNITS[match[2]]))
        elif any(map(_LIKE_TIME.fullmatch, _words(name))) and name not in told.values():
            strange.append(name)
    offsets = found.pop("offset")
    if any("onset" in _letters(name) for name in header):
        found["end"] += offsets
    elif found["duration"] and not (found["start"] or found["end"] or roles):
        found["start"] = offsets
    else:
        strange += [name for name, _ in offsets]
    length_is_told = bool(roles & {"end", "duration"})
    names: dict[str, str] = {}
    for role, those in found.items():
        if role in roles or (role != "start" and length_is_told):
            names |= {f"left alone: {name}": name for name, _ in those}
        elif len(those) > 1:
            raise ManifestError(
                f"{place}: the columns {' and '.join(repr(name) for name, _ in those)} both say the {role} of a clip; "
                f"remove one, or name the one that counts with data.columns: {{{role}_{those[0][1]}: {those[0][0]}}}."
            )
        else:
            names |= {f"{role}_{unit}": name for name, unit in those}
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
