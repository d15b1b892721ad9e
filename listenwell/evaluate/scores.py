"""The score table: one row per scored clip and condition, the only thing evaluation knows of models and audio.

score: the higher, the more like speech; a language model's is logit(SPEECH answer) - logit(NONSPEECH answer).
snr_db: level of the clip over the mixed background, NaN where nothing was mixed. condition: the version of the
clip ("", "snr_-5", "200ms", ...). category and corpus, as in Clip, are "" where unknown. Another program's predictions
can be read too: clip_id, group, label and score are enough.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listenwell.data.clip import LABELS
from listenwell.data.tables import NO_NAMES, Row, read_rows, write_rows
from listenwell.errors import ManifestError

UNKNOWN: NDArray[np.str_] = np.array([], dtype=np.str_)
"""Stands for a column whose values are unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """Columns of n rows; arrays are read-only.

    Raises ManifestError for columns of unequal length, an empty table, a score that is NaN or infinite, an unknown
    label, an empty group, or a clip that stands twice under one condition.
    """

    clip_id: NDArray[np.str_]
    group: NDArray[np.str_]
    label: NDArray[np.str_]
    score: NDArray[np.float64]
    duration_ms: NDArray[np.float64]
    snr_db: NDArray[np.float64]
    condition: NDArray[np.str_]
    category: NDArray[np.str_] = field(default_factory=lambda: UNKNOWN)
    corpus: NDArray[np.str_] = field(default_factory=lambda: UNKNOWN)

    def __post_init__(self) -> None:
        for name in COLUMNS:
            kind: Any = np.float64 if name in NUMBERS else np.str_
            given = getattr(self, name)
            column = np.full(len(self.score), "") if given is UNKNOWN else np.array(given, dtype=kind)
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        _check(self)

    def __len__(self) -> int:
        return int(self.score.size)

    @property
    def is_speech(self) -> NDArray[np.bool_]:
        """True where the label is SPEECH, shape (n,)."""
        is_speech: NDArray[np.bool_] = self.label == "SPEECH"
        return is_speech

    @property
    def is_decision(self) -> bool:
        """True where the scores are decisions, 0 and 1 alone: there is nothing to rank."""
        return bool(np.isin(self.score, (0.0, 1.0)).all())

    def select(self, rows: NDArray[np.bool_]) -> "ScoreTable":
        """Return the table of the rows where `rows`, shape (n,), is True."""
        return self.take(np.flatnonzero(rows))

    def take(self, positions: NDArray[np.intp]) -> "ScoreTable":
        """Return the table of the rows at `positions`, in that order."""
        return ScoreTable(*(getattr(self, column)[positions] for column in COLUMNS))


def join_tables(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Return the rows of the tables one after the other, as one table."""
    return ScoreTable(*(np.concatenate([getattr(table, column) for table in tables]) for column in COLUMNS))


COLUMNS = tuple(each.name for each in fields(ScoreTable))
OPTIONAL_COLUMNS = ("category", "corpus")
"""Written only where something stands in them."""
REQUIRED_COLUMNS = ("clip_id", "group", "label", "score")
NUMBERS = ("score", "duration_ms", "snr_db")


def read_scores(
    path: Path,
    names: Mapping[str, str] = NO_NAMES,
    read_score: Callable[[Row], float] = lambda row: row.number("score"),
) -> ScoreTable:
    """Return the table in the CSV file at `path`; clip_id, group, label and score are required.

    names: column -> what the file calls it, where that is another name; one column may be clip_id and group.
    Raises ManifestError with file and line.
    """
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    lines: dict[tuple[str, str], int] = {}
    alone = "group" in names and "clip_id" in names and names["group"] == names["clip_id"]
    group = "clip_id" if alone else "group"
    names = {column: name for column, name in names.items() if column != "group" or not alone}
    for row in read_rows(path, COLUMNS, [each for each in REQUIRED_COLUMNS if each != "group" or not alone], names):
        key = (row.required("clip_id"), row.text("condition"))
        if lines.setdefault(key, row.line) != row.line:
            raise row.fault(f"{_named(*key)} already stands in line {lines[key]}; keep one of the two scores.")
        columns["clip_id"].append(key[0])
        columns["condition"].append(key[1])
        columns["group"].append(row.required(group))
        columns["label"].append(row.label())
        columns["score"].append(read_score(row))
        columns["duration_ms"].append(row.number("duration_ms") if row.has("duration_ms") else np.nan)
        columns["snr_db"].append(row.number("snr_db") if row.has("snr_db") else np.nan)
        columns["category"].append(row.text("category"))
        columns["corpus"].append(row.text("corpus"))
    return ScoreTable(**{column: np.array(values) for column, values in columns.items()})


def write_scores(path: Path, table: ScoreTable) -> None:
    """Write `table` to the CSV file at `path` atomically; numbers survive to the last bit, NaN becomes empty."""
    known = [each for each in COLUMNS if each not in OPTIONAL_COLUMNS or (getattr(table, each) != "").any()]
    columns = [_cells(getattr(table, column)) for column in known]
    write_rows(path, known, zip(*columns, strict=True))


def _check(table: ScoreTable) -> None:
    lengths = {column: len(getattr(table, column)) for column in COLUMNS}
    if len(set(lengths.values())) > 1:
        raise ManifestError(f"score table: columns of unequal length {lengths}; give every clip one value in each.")
    if len(table) == 0:
        raise ManifestError("score table: no rows; at least one scored clip was expected.")
    if not np.isfinite(table.score).all():
        row = int(np.flatnonzero(~np.isfinite(table.score))[0])
        raise ManifestError(
            f"score table: the score of clip '{table.clip_id[row]}' is {table.score[row]}; a finite number was "
            "expected, look for NaN in the model or the audio and score the clip again."
        )
    unknown = np.flatnonzero(~np.isin(table.label, LABELS))
    if unknown.size:
        row = int(unknown[0])
        raise ManifestError(
            f"score table: clip '{table.clip_id[row]}' has the label '{table.label[row]}'; "
            f"expected {' or '.join(LABELS)}, correct it."
        )
    if (table.group == "").any():
        row = int(np.flatnonzero(table.group == "")[0])
        raise ManifestError(
            f"score table: clip '{table.clip_id[row]}' has no group; name its speaker or its sound source."
        )
    seen: set[tuple[str, str]] = set()
    for clip_id, condition in zip(table.clip_id.tolist(), table.condition.tolist(), strict=True):
        if (clip_id, condition) in seen:
            raise ManifestError(f"score table: {_named(clip_id, condition)} stands twice; keep one of the two scores.")
        seen.add((clip_id, condition))


def _named(clip_id: str, condition: str) -> str:
    return f"clip '{clip_id}'" + (f" under condition '{condition}'" if condition else "")


def _cells(column: NDArray[Any]) -> Sequence[str]:
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else repr(value) for value in column.tolist()]
    return [str(value) for value in column.tolist()]
