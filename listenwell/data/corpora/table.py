"""Any table of clips: CSV, JSON Lines or Parquet, its column names mapped to those of a `Clip`.

    columns = {"clip_id": "utt", "path": "wav", "label": "is_speech", "group": "spk"}     (ours -> the table's)

Columns that are not mapped keep their names. Cells mean what they mean in clips.csv (listenwell.data.manifest); a
null or NaN is an empty cell. A row of a Parquet file is called by its number, from 1. Rows are streamed: one line of
text, or one batch of a Parquet file, is in memory at a time. Parquet is read by pyarrow (extra `parquet`).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from listenwell.data.clip import Clip
from listenwell.data.csv_rows import NO_NAMES, Row, check_header, check_names, read_rows, rename_columns
from listenwell.data.manifest import CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS, build_clips
from listenwell.errors import ConfigError, ManifestError

JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIX = ".parquet"
ROWS_PER_BATCH = 4096


def read_table(path: Path, columns: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of the table at `path`, in its order; its suffix says what it is, CSV unless named above.

    Raises ConfigError for a mapped column that no clip has, or when pyarrow is missing, and ManifestError for the
    first fault of the table.
    """
    unknown = [column for column in columns if column not in CLIP_COLUMNS]
    if unknown:
        raise ConfigError(
            f"data.columns: a clip has no column '{unknown[0]}'; expected some of {', '.join(CLIP_COLUMNS)}, "
            "each followed by the name it has in the table."
        )
    shared = [name for name in columns.values() if list(columns.values()).count(name) > 1]
    if shared:
        raise ConfigError(f"data.columns: '{shared[0]}' is named twice; give every column of the table one meaning.")
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        rows = _named_rows(path, _json_records(path), columns)
    elif suffix == PARQUET_SUFFIX:
        rows = _named_rows(path, _parquet_records(path), columns)
    else:
        rows = read_rows(path, CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS, columns)
    return build_clips(rows, path.parent)


def _named_rows(path: Path, records: Iterator[tuple[int, dict[str, Any]]], columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield each record, found in its line, as a row. The first must name the required columns; in later ones a
    missing name is an empty cell.
    """
    headers: dict[tuple[str, ...], list[str]] = {}
    absent = dict.fromkeys(CLIP_COLUMNS, "")
    for line, record in records:
        names = tuple(record)
        if names not in headers:
            header = rename_columns(names, columns)
            if not headers:
                check_names(path, names, columns)
            check_header(path, header, CLIP_COLUMNS, () if headers else REQUIRED_CLIP_COLUMNS)
            headers[names] = header
        cells = {
            column: _text(path, line, column, value)
            for column, value in zip(headers[names], record.values(), strict=True)
            if column in absent
        }
        yield Row(path, line, absent | cells, decimal_comma=False)
    if not headers:
        raise ManifestError(f"{path}: the table has no rows; at least one row was expected.")


def _text(path: Path, line: int, column: str, value: Any) -> str:
    """Return a value of JSON or Parquet as the cell of a CSV table would say it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        text = str(value).strip()
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise ManifestError(f"{path} line {line}: {column} holds half a character ({text!r}); write it in full.")
        return text
    raise ManifestError(
        f"{path} line {line}: {column} holds a {type(value).__name__}; a text or a number was expected, flatten the "
        "column or map another one."
    )


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, _json_object(path, line, text)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be opened ({error.strerror}); give the path of a table.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not UTF-8 text (byte {error.start}); save the table in UTF-8.") from error


def _json_object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        problem = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise ManifestError(
            f"{path} line {line}: is not valid JSON ({problem}); one object in braces was expected on the line."
        ) from error
    if not isinstance(record, dict):
        raise ManifestError(
            f"{path} line {line}: holds a {type(record).__name__}; one object in braces was expected on the line."
        )
    return record


def _parquet_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{path}: Parquet tables need pyarrow, which is not installed; run 'pip install listenwell[parquet]', or "
            "save the table as CSV."
        ) from error
    line = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            # Columns of bytes or lists may hold the recordings themselves; no cell of a clip is one.
            kinds = pyarrow.types
            names = [
                field.name
                for field in file.schema_arrow
                if not (kinds.is_nested(field.type) or kinds.is_binary(field.type) or kinds.is_large_binary(field.type))
            ]
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=names):
                for record in batch.to_pylist():
                    line += 1
                    yield line, record
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({str(error).rstrip('.')}); check the path, or write the table again."
        ) from error
