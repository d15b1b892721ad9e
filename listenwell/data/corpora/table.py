"""Any table of clips: CSV, JSON Lines (also NeMo's manifests) or Parquet, its column names mapped to those of a `Clip`.

    columns = {"clip_id": "utt", "path": "wav", "label": "is_speech", "group": "spk"}     (ours -> the table's)

Columns that are not mapped keep their names. Cells mean what they mean in clips.csv (listenwell.data.manifest); a
null or NaN is an empty cell. A row of a Parquet file is called by its number, from 1. Rows are streamed: one line of
text, or one batch of a Parquet file, is in memory at a time. Parquet is read by pyarrow (extra `parquet`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from listenwell.data.clip import Clip
from listenwell.data.column_names import timed_rows
from listenwell.data.csv_rows import NO_NAMES, Record, csv_records
from listenwell.data.exchange.json_lines import json_records
from listenwell.data.manifest import CLIP_COLUMNS, READ_CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS, build_clips
from listenwell.errors import ConfigError, ManifestError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIX = ".parquet"
ROWS_PER_BATCH = 4096


def read_table(path: Path, columns: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of the table at `path`, in its order; its suffix says what it is, CSV unless named above.

    Raises ConfigError for a mapped column that no clip has, or when pyarrow is missing, and ManifestError for the
    first fault of the table.
    """
    unknown = [column for column in columns if column not in READ_CLIP_COLUMNS]
    if unknown:
        raise ConfigError(
            f"data.columns: a clip has no column '{unknown[0]}'; expected some of {', '.join(READ_CLIP_COLUMNS)}, "
            "each followed by the name it has in the table."
        )
    shared = [name for name in columns.values() if list(columns.values()).count(name) > 1]
    if shared:
        raise ConfigError(f"data.columns: '{shared[0]}' is named twice; give every column of the table one meaning.")
    advice = (
        "say which one is meant with data.columns in a config, such as {group: speaker} ('listenwell init "
        f"{path.name}' writes one where the names are obvious), or add the column"
    )
    rows = timed_rows(path, table_records(path), CLIP_COLUMNS, REQUIRED_CLIP_COLUMNS, columns, advice)
    return build_clips(rows, path.parent)


def table_records(path: Path) -> Iterator[Record]:
    """Return what the table holds, line by line, by the names of its own columns."""
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        return json_records(path)
    return _parquet_records(path) if suffix == PARQUET_SUFFIX else csv_records(path)


def _parquet_records(path: Path) -> Iterator[Record]:
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
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    line += 1
                    yield Record(line, tuple(names), cells)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({str(error).rstrip('.')}); check the path, or write the table again."
        ) from error
