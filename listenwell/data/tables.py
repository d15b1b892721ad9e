"""Read and write tables row by row, so that every fault names its file and line.

A table is a header and rows, as records: of CSV here, of other kinds in listenwell.data.manifest. CSV is UTF-8, or
UTF-16 where a byte-order mark says so (Excel's "Unicode text"); commas, semicolons or tabs, or what Excel's first line
"sep=;" names (a semicolon file may use decimal commas, as spreadsheets in many countries do). Lines are counted against
rows: a quote that is never closed swallows no lines. Unknown columns are left alone, but one that looks like a misspelt
known column is refused, because its values would be lost. Faults are ManifestErrors: file, line, found, expected, next
step. Linear time; reading holds one row in memory.

JSON Lines, plain or gzip-compressed: one object per line, every fault with its file and line.
"""

import csv
import difflib
import gzip
import io
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
from listenwell.errors import ManifestError
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
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w"])"?\1*', re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"(?<=[a-z])[\s_-]+(?=[a-z])")


class Record(NamedTuple):
    """What one line says: its cells by the names of the table, or the names alone (cells is None)."""

    line: int
    names: tuple[str, ...]
    cells: Sequence[Any] | None
    decimal_comma: bool = False


def read_rows(
    path: Path, known: Sequence[str], required: Sequence[str], names: Mapping[str, str] = NO_NAMES
) -> Iterator["Row"]:
    """Yield the rows below the header of a CSV table. Raises ManifestError, also when there is none.

    names: known column -> what the table calls it, where that is another name.
    """
    return name_rows(path, csv_records(path), known, required, lambda place, header: names)


def name_rows(
    path: Path,
    records: Iterable[Record],
    known: Sequence[str],
    required: Sequence[str],
    name_columns: Callable[[str, Sequence[str]], Mapping[str, str]],
    advice: str = ADD_COLUMN,
) -> Iterator["Row"]:
    """Yield each record as a row of the known columns. Raises ManifestError, also when there is none.

    The first must name the required columns; in later ones (of JSON) a missing name is an empty cell. name_columns:
    known column -> the table's name, of a header and its place. advice: what to do where a required one is missing.
    """
    places: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    n_rows, absent = 0, dict.fromkeys(known, "")
    for line, header, cells, decimal_comma in records:
        if header not in places:
            place = f"{path} line {line}"
            names = name_columns(place, header)
            columns = _rename_columns(place, header, names, known)
            if not places:
                for column, name in names.items():
                    if name not in header:
                        raise ManifestError(
                            f"{place}: the column '{name}', to be read as {column}, is missing, found "
                            f"{', '.join(header)}; correct data.columns or the table."
                        )
                _require_columns(place, header, columns, required, advice)
            places[header] = [(i, column) for i, column in enumerate(columns) if column in absent]
        if cells is not None:
            n_rows += 1
            values = {column: _text(path, line, column, cells[i]) for i, column in places[header]}
            yield Row(path, line, absent | values, decimal_comma)
    if n_rows == 0:
        found = "a header but no rows" if places else "no rows"
        raise ManifestError(f"{path}: the table has {found}; at least one row was expected.")


def _text(path: Path, line: int, column: str, value: Any) -> str:
    """Return a value of any table as the cell of a CSV table would say it."""
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


def csv_records(path: Path) -> Iterator[Record]:
    """Yield the header of a CSV table, then its rows, each with the line it begins in. Raises ManifestError."""
    with open_text(path) as file:
        lines = _Lines(path, file)
        first = next(lines, "")
        told = _SEPARATOR_LINE.fullmatch(first.rstrip("\r\n"))
        first = next(lines, "") if told else first
        delimiter = told[1] if told else max(",;\t", key=first.count)
        header_line = max(lines.number, 1)
        header = tuple(cell.strip() for cell in _split(lines, first, delimiter, None))
        yield Record(header_line, header, None)
        for text in lines:
            line = lines.number
            cells = _split(lines, text, delimiter, len(header))
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(header):
                raise ManifestError(
                    f"{path} line {line}: {len(cells)} cells, expected {len(header)} as in the header; "
                    "give every column a name there, and put cells that contain the delimiter in double quotes."
                )
            yield Record(line, header, cells, delimiter == ";")


class _Lines:
    """The lines of a table, counted; lines that were read too far can be given back."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.number = path, 0
        self._file, self._given_back = file, list[str]()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._given_back.pop() if self._given_back else next(self._file)
        self.number += 1
        if "\0" in line:
            raise ManifestError(
                f"{self.path} line {self.number}: holds a zero byte, which no text has; save it as CSV again, in UTF-8."
            )
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        self.number -= len(lines)
        self._given_back.extend(reversed(lines))


class _SwallowedRowError(Exception):
    """A line inside quotes that looks like a row of its own."""


def _split(lines: _Lines, text: str, delimiter: str, n_cells: int | None) -> list[str]:
    """Return the cells of the row that begins with the line `text`; a quoted cell may go on over `lines`.

    A line inside quotes that has as many cells as the header is a row behind a quote that nobody closed. Tables with
    tabs are often written without any quoting, so there the quote is a sign like others; elsewhere it is refused.
    """
    if '"' not in text:
        return text.rstrip("\r\n").split(delimiter)
    line, taken = lines.number, list[str]()

    def quoted_lines() -> Iterator[str]:
        yield text
        for each in lines:
            taken.append(each)
            if n_cells and n_cells == 1 + each.count(delimiter) and ('"' not in each or len(unquoted) == n_cells):
                raise _SwallowedRowError(f"a quote opens that takes in line {lines.number}, which looks like a row")
            yield each

    unquoted = text.rstrip("\r\n").split(delimiter)
    try:
        return next(csv.reader(quoted_lines(), delimiter=delimiter, strict=True))
    except (csv.Error, _SwallowedRowError) as error:
        if delimiter == "\t" and n_cells in (None, len(unquoted)):
            lines.give_back(taken)
            return unquoted
        raise ManifestError(
            f"{lines.path} line {line}: is not valid CSV ({error}); check the quotes of that line: a cell that holds "
            "one stands in quotes, and the quote twice in it."
        ) from error


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


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a header and `rows` to `path` atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for row in rows:
            # The csv module of Python 3.11 does not quote a carriage return, and could then not read it back.
            (quoted if any("\r" in cell for cell in row) else plain).writerow(row)


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
        return self.text(column) if self.has(column) else ""

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
        for each in allowed:
            if value.lower() == each.lower():
                return each
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


class UniqueColumn:
    """Remembers the line of every value of one column and refuses the second use."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.lines: dict[str, int] = {}

    def add(self, row: Row, value: str = "") -> str:
        """Return the value (the row's own where none is given) after remembering it. Raises ManifestError if taken."""
        value = value or row.required(self.column)
        if value in self.lines:
            raise row.fault(
                f"the {self.column} '{value}' already stands in line {self.lines[value]}; "
                "every row needs its own, rename one of them."
            )
        self.lines[value] = row.line
        return value


def _rename_columns(place: str, header: Sequence[str], names: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Return `header` with the table's names replaced by the known ones; names: known column -> the table's name.

    A column whose name a renamed one takes over is left out of the reading ("" in its place). Raises ManifestError when
    a column stands twice or is a misspelt known one.
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
    place: str, header: Sequence[str], columns: Sequence[str], required: Sequence[str], advice: str
) -> None:
    missing, found = [column for column in required if column not in columns], ", ".join(header)
    if missing and not found:
        raise ManifestError(f"{place}: the file is empty; a header with {', '.join(missing)} was expected.")
    if missing:
        raise ManifestError(
            f"{place}: the required column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing, found {found}; {advice}."
        )


@dataclass(frozen=True, slots=True)
class JsonLine:
    """The object on one line, or a part of it, with the place it came from."""

    file: Path
    line: int
    values: Mapping[str, Any]

    def fault(self, sentence: str) -> ManifestError:
        """Return the error that says `sentence` about this line."""
        return ManifestError(f"{self.file} line {self.line}: {sentence}")

    def optional(self, name: str) -> Any:
        """Return the value, None where there is none."""
        return self.values[name] if name in self.values else None

    def required(self, name: str) -> Any:
        """Return the value. Raises ManifestError where there is none."""
        value = self.optional(name)
        if value is None:
            raise self.fault(f"'{name}' is missing, found {', '.join(map(str, self.values))}; add it to the line.")
        return value

    def number(self, name: str) -> float:
        """Return the value as a number. Raises ManifestError where it is none."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(f"'{name}' is {json.dumps(value)[:60]}, a number was expected; correct the line.")
        try:
            return float(value)
        except OverflowError as error:
            raise self.fault(f"'{name}' is a number of {int(value).bit_length()} bits; correct the line.") from error

    def items(self, name: str) -> list[Any]:
        """Return the value as a list. Raises ManifestError where it is none."""
        value = self.required(name)
        if not isinstance(value, list):
            raise self.fault(f"'{name}' is {json.dumps(value)[:60]}, a list was expected; correct the line.")
        return value

    def part(self, values: Any) -> "JsonLine":
        """Return an object found inside this one. Raises ManifestError when it is none."""
        if not isinstance(values, dict):
            raise self.fault(f"found {json.dumps(values)[:60]} where an object in braces was expected.")
        return JsonLine(self.file, self.line, values)


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """Yield the lines of the file; one named *.gz is decompressed. Raises ManifestError."""
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield _read_line(path, line, text)


def json_records(path: Path) -> Iterator[Record]:
    """Yield the lines of the file as rows of a table (listenwell.data.tables). Raises ManifestError."""
    return (Record(each.line, tuple(each.values), tuple(each.values.values())) for each in read_json_lines(path))


def _read_line(path: Path, line: int, text: str) -> JsonLine:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        problem = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise ManifestError(
            f"{path} line {line}: is not valid JSON ({problem}); one object in braces was expected on the line."
        ) from error
    return JsonLine(path, line, {}).part(values)


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one object per line, gzip-compressed, atomically; the same records give the same bytes."""
    with atomic_path(path) as temporary, temporary.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as out:
        for record in records:
            out.write((json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode())
