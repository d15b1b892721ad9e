"""Read and write tables: any file of rows -> records by its own names -> rows of known columns.

    CSV           UTF-8, or UTF-16 where a byte-order mark says so; commas, semicolons (also with decimal commas),
                  tabs, or what Excel's first line "sep=;" names. A quote that is never closed swallows no lines; in
                  a table with tabs it is a character like others.
    JSON Lines    one object per line, plain or gzip-compressed, also NeMo's manifests
    Parquet       read by pyarrow (extra `parquet`), a batch at a time; a row is called by its number, from 1

Unknown columns are left alone, but one that looks like a misspelt known column is refused, because its values would be
lost. Faults are ManifestErrors. Linear time; reading holds one row in memory.
"""

import csv
import difflib
import gzip
import io
import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from listenwell.data.clip import Label
from listenwell.errors import ConfigError, ManifestError
from listenwell.storage.atomic_files import atomic_path

MISSING_VALUES = frozenset(("", "nan", "<na>", "na", "n/a", "#n/a", "none", "null", "nil", "nat", "-", "--", "?"))
"""What spreadsheets and data frames write for "no value", in lower case."""
LABEL_WORDS: Mapping[str, Label] = {
    **dict.fromkeys(("speech", "voice", "true", "yes"), "SPEECH"),
    **dict.fromkeys(("nonspeech", "nospeech", "notspeech", "nonvoice", "novoice", "false", "no"), "NONSPEECH"),
}
"""What a label column may say beside 1 and 0, in lower case, without what stands between its words."""
NO_NAMES: Mapping[str, str] = {}
ADD_COLUMN = "add to the header what is missing (in lower case) and fill every row"
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
ROWS_PER_BATCH = 4096
_CHECK_QUOTES = "check the quotes of that line: a cell that holds one stands in quotes, and the quote twice in it"
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w"])"?\1*', re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"(?<=[a-z])[\s_-]+(?=[a-z])")


class Record(NamedTuple):
    """What one line says: its cells by the names of the table, or the names alone (cells is None)."""

    line: int
    names: tuple[str, ...]
    cells: Sequence[Any] | None
    decimal_comma: bool = False


def read_rows(
    path: Path,
    known: Sequence[str],
    required: Sequence[str],
    names: Mapping[str, str] | Callable[[str, Sequence[str]], Mapping[str, str]] = NO_NAMES,
    advice: str = ADD_COLUMN,
) -> Iterator["Row"]:
    """Yield each record as a row of the known columns. Raises ManifestError, also when there is none.

    The first must name the required columns; in later ones (of JSON) a missing name is an empty cell. names: known
    column -> what the table calls it, where that is another name; or what gives it of a header's place and names.
    advice: what to do where a required column is missing.
    """
    places: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    n_rows, absent = 0, dict.fromkeys(known, "")
    for line, header, cells, decimal_comma in table_records(path):
        if header not in places:
            place = f"{path} line {line}"
            named = names(place, header) if callable(names) else names
            columns = _rename_columns(place, header, named, known)
            if not places:
                _require_columns(
                    f"{place}: ", header, named, [column for column in required if column not in columns], advice
                )
            places[header] = [(i, column) for i, column in enumerate(columns) if column in absent]
        if cells is not None:
            n_rows += 1
            values = {column: _text(path, line, column, cells[i]) for i, column in places[header]}
            yield Row(path, line, absent | values, decimal_comma)
    if n_rows == 0:
        state = "a header but no rows" if places else "no rows"
        raise ManifestError(f"{path}: the table has {state}; at least one row was expected.")


def _text(path: Path, line: int, column: str, value: Any) -> str:
    """Return a value of any table as the cell of a CSV table would say it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ManifestError(
            f"{path} line {line}: {column} holds a {type(value).__name__}; a text or a number was expected, flatten "
            "the column or map another one."
        )
    text = str(value).strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ManifestError(f"{path} line {line}: {column} holds a lone surrogate ({text!r}); write it in full.")
    return text


def _rename_columns(place: str, header: Sequence[str], names: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Return `header` with the table's names replaced by the known ones, "" for one whose name another takes.

    Raises ManifestError when a column stands twice or is a misspelt known one.
    """
    known_by = {name: column for column, name in names.items()}
    columns = [known_by[cell] if cell in known_by else "" if cell in names else cell for cell in header]
    for column in columns:
        if column and columns.count(column) > 1:
            raise ManifestError(f"{place}: the column '{column}' stands twice; remove one of them.")
        near = difflib.get_close_matches(column, known, n=1, cutoff=0.8)
        if column not in known and near and near[0] not in columns:
            raise ManifestError(
                f"{place}: unknown column '{column}', probably '{near[0]}' was meant; rename the column."
            )
    return columns


def _require_columns(
    place: str, header: Sequence[str], names: Mapping[str, str], missing: Sequence[str], advice: str
) -> None:
    """Raise ManifestError for a name that the header lacks, and for required columns that are missing."""
    found = f"found {', '.join(header)}"
    for column, name in names.items():
        if name not in header:
            raise ManifestError(f"{place}the column '{name}', to be read as {column}, is missing, {found}; correct it.")
    if missing and not any(header):
        raise ManifestError(f"{place}the file is empty; a header with {', '.join(missing)} was expected.")
    if missing:
        are = "columns {} are" if len(missing) > 1 else "column {} is"
        raise ManifestError(f"{place}the required {are.format(', '.join(missing))} missing, {found}; {advice}.")


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one line by known column ("" where the table lacks it), with the place they came from."""

    file: Path
    line: int
    cells: Mapping[str, str]
    decimal_comma: bool

    def fault(self, sentence: str) -> ManifestError:
        """Return the error that says `sentence` about this line."""
        return ManifestError(f"{self.file} line {self.line}: {sentence}")

    def text(self, column: str) -> str:
        """Return the cell, "" where it is empty or the table lacks the column."""
        return self.cells[column]

    def has(self, column: str) -> bool:
        """Tell whether the cell holds a value; NaN, NA, None and their like count as none."""
        value = self.cells[column]
        return value != "" and value.lower() not in MISSING_VALUES

    def identifier(self, column: str) -> str:
        """Return the cell, "" also where it says that there is no value."""
        return self.cells[column] if self.has(column) else ""

    def required(self, column: str) -> str:
        """Return the cell. Raises ManifestError where it holds no value."""
        value = self.text(column)
        if not self.has(column):
            shown = f"'{value}', which stands for a missing value" if value else "empty"
            raise self.fault(f"the {column} is {shown}; every row needs one, fill it in or remove the row.")
        return value

    def one_of(self, column: str, allowed: Sequence[str]) -> str:
        """Return the member of `allowed` that the cell names, in any case of letters."""
        value = self.required(column)
        for word in allowed:
            if value.lower() == word.lower():
                return word
        raise self.fault(
            f"unknown {column} '{value}'; expected {' or '.join(allowed)} (upper or lower case), "
            f"correct the {column} column."
        )

    def label(self) -> Label:
        """Return the label column's value: 1 or 0, or one of LABEL_WORDS, in any case of letters."""
        value = self.required("label")
        word = _BETWEEN_WORDS.sub("", value.lower())
        if word in LABEL_WORDS:
            return LABEL_WORDS[word]
        number = self._parse(value)
        if number not in (0.0, 1.0):
            raise self.fault(
                f"unknown label '{value}'; expected SPEECH or NONSPEECH (also voice, no speech, not speech, 1 and 0, "
                "true and false, yes and no, in upper or lower case), correct the label column."
            )
        return "SPEECH" if number else "NONSPEECH"

    def number(self, column: str) -> float:
        """Return the cell as a finite number."""
        text = self.required(column)
        value = self._parse(text)
        if not math.isfinite(value):
            raise self.fault(f"{column} is '{text}'; expected a finite number such as 1.25, correct the cell.")
        return value

    def _parse(self, text: str) -> float:
        try:
            return math.nan if "_" in text else float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            return math.nan

    def seconds(self, column: str) -> float:
        """Return the cell as a time, 0 or more seconds."""
        value = self.number(column)
        if value < 0:
            raise self.fault(f"{column} is {self.text(column)}; times are 0 or more, correct the cell.")
        return value


# Records


def table_records(path: Path) -> Iterator[Record]:
    """Yield what the table holds, line by line, by the names of its own columns. Raises ManifestError."""
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        return (Record(line, tuple(values), tuple(values.values())) for line, values in read_json_lines(path))
    return _parquet_records(path) if suffix == ".parquet" else _csv_records(path)


def _csv_records(path: Path) -> Iterator[Record]:
    """Yield the header of a CSV table, then its rows, each with the line it begins in."""
    with open_text(path) as file:
        lines = _lines(path, file)
        first, n_before = next(lines, ""), 0
        if separator := _SEPARATOR_LINE.fullmatch(first.rstrip("\r\n")):
            first, n_before = next(lines, ""), 1
        delimiter = separator[1] if separator else max(",;\t", key=first.count)
        rows = _csv_rows(path, itertools.chain([first], lines), delimiter, n_before)
        line, cells = next(rows, (1, [""]))
        header = tuple(cell.strip() for cell in cells)
        yield Record(line, header, None)
        for line, cells in rows:
            if any(map(str.strip, cells)):
                _require_cells(f"{path} line {line}", cells, len(header), delimiter)
                yield Record(line, header, cells, delimiter == ";")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    for number, text in enumerate(file, start=1):
        if "\0" in text:
            raise ManifestError(
                f"{path} line {number}: holds a zero byte, which no text has; save it as CSV again, in UTF-8."
            )
        yield text


def _csv_rows(path: Path, lines: Iterable[str], delimiter: str, n_before: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it begins in. Tables with tabs are often written without any quoting."""
    if delimiter == "\t":
        for number, text in enumerate(lines, start=n_before + 1):
            try:
                yield number, next(csv.reader([text], delimiter=delimiter, strict=True), [])
            except csv.Error:
                yield number, text.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = n_before + 1
    try:
        for cells in reader:
            yield line, cells
            line = n_before + reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{path} line {line}: is not valid CSV ({error}); {_CHECK_QUOTES}.") from error


def _require_cells(place: str, cells: Sequence[str], n_expected: int, delimiter: str) -> None:
    """Raise ManifestError for too many or few cells, and for rows inside a quote that nobody closed."""
    if len(cells) != n_expected:
        raise ManifestError(
            f"{place}: {len(cells)} cells, expected {n_expected} as in the header; give every column a name there, and "
            "put cells that contain the delimiter in double quotes."
        )
    inner = [line for cell in cells for line in cell.splitlines()[1:]]
    if any(line.count(delimiter) == n_expected - 1 for line in inner):
        raise ManifestError(
            f"{place}: is not valid CSV (a quote opens that takes in a line which looks like a row); {_CHECK_QUOTES}."
        )


def _parquet_records(path: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{path}: Parquet tables need pyarrow, which is not installed; run 'pip install listenwell[parquet]', or "
            "save the table as CSV."
        ) from error
    line, kinds = 0, pyarrow.types
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            # Columns of bytes or lists may hold the recordings themselves; no cell of a clip is one.
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


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of the file; one named *.gz is decompressed. Raises ManifestError."""
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
                problem = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise ManifestError(
                    f"{path} line {line}: is not valid JSON ({problem}); one object in braces was expected on the line."
                ) from error
            if not isinstance(values, dict):
                raise ManifestError(
                    f"{path} line {line}: found {json.dumps(values)[:60]} where an object in braces was expected."
                )
            yield line, values


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8, or in UTF-16 where it begins with that mark; one named *.gz is decompressed.

    Line ends are kept. Raises ManifestError, also for what is read from it later.
    """
    encoding = "utf-8-sig"
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            encoding = "utf-16" if file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff") else encoding
            with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
                yield text
    except (OSError, EOFError, zlib.error) as error:
        problem = getattr(error, "strerror", None) or error
        raise ManifestError(
            f"{path}: cannot be opened or read ({problem}); give the path of a table, fetch it again if it is cut."
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is not {encoding.upper().removesuffix('-SIG')} text (found the byte "
            f"0x{error.object[error.start]:02x}); save the table in UTF-8, as CSV where it is a spreadsheet."
        ) from error


# Writing


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a header and `rows` to `path` atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for row in rows:
            # The csv module of Python 3.11 does not quote a carriage return, and could then not read it back.
            (quoted if any("\r" in cell for cell in row) else plain).writerow(row)
