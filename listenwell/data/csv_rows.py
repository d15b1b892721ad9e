"""Read and write CSV tables row by row, so that every fault names its file and line.

UTF-8 with or without a byte-order mark; commas, semicolons or tabs (a semicolon file may use decimal commas, as
spreadsheets in many countries do). Unknown columns are left alone, but one that looks like a misspelt known
column is refused, because its values would be lost. Faults are ManifestErrors: file, line, found, expected, next
step. Linear time; reading holds one row in memory.
"""

import csv
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.atomic_files import atomic_path
from listenwell.data.clip import Label
from listenwell.errors import ManifestError

MISSING_VALUES = ("", "nan", "<na>")
"""What spreadsheets and data frames write for "no value", in lower case."""
LABEL_WORDS: Mapping[str, Label] = {
    **dict.fromkeys(("speech", "1", "true"), "SPEECH"),
    **dict.fromkeys(("nonspeech", "non-speech", "non_speech", "0", "false"), "NONSPEECH"),
}
"""What a label column may say, in lower case."""
NO_NAMES: Mapping[str, str] = {}


def read_rows(
    path: Path, known: Sequence[str], required: Sequence[str], names: Mapping[str, str] = NO_NAMES
) -> Iterator["Row"]:
    """Yield the rows below the header. Raises ManifestError, also when there is none.

    names: known column -> what the table calls it, where that is another name.
    """
    line, n_rows, absent = 0, 0, dict.fromkeys(known, "")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            check_names(path, header, names)
            header = rename_columns(header, names)
            check_header(path, header, known, required)
            for cells in reader:
                line = reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise ManifestError(
                        f"{path} line {line}: {len(cells)} cells, expected {len(header)} as in the header; "
                        "put cells that contain the delimiter in double quotes."
                    )
                if any("\0" in cell for cell in cells):
                    raise ManifestError(
                        f"{path} line {line}: holds a zero byte, which no text has; save it as CSV again."
                    )
                n_rows += 1
                values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                yield Row(path, line, absent | values, decimal_comma=delimiter == ";")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be opened ({error.strerror}); give the path of a CSV table.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is not UTF-8 text (byte {error.start}); save the table as CSV in UTF-8."
        ) from error
    except csv.Error as error:
        raise ManifestError(
            f"{path} line {line + 1}: is not valid CSV ({error}); check the quotes of that line."
        ) from error
    if n_rows == 0:
        raise ManifestError(f"{path}: the table has a header but no rows; at least one row was expected.")


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
        """Tell whether the cell holds a value; NaN counts as none."""
        return self.cells[column].lower() not in MISSING_VALUES

    def required(self, column: str) -> str:
        """Return the cell. Raises ManifestError where it is empty or NaN."""
        value = self.text(column)
        if not self.has(column):
            shown = f"'{value}'" if value else "empty"
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
        """Return the label column's value; the words of LABEL_WORDS are understood, in any case of letters."""
        value = self.required("label")
        if value.lower() not in LABEL_WORDS:
            raise self.fault(
                f"unknown label '{value}'; expected SPEECH or NONSPEECH (upper or lower case, or 1 and 0), "
                "correct the label column."
            )
        return LABEL_WORDS[value.lower()]

    def number(self, column: str) -> float:
        """Return the cell as a finite number."""
        text = self.required(column)
        try:
            value = float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.fault(f"{column} is '{text}'; expected a finite number such as 1.25, correct the cell.")
        return value

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

    def add(self, row: Row) -> str:
        """Return the row's value after remembering it. Raises ManifestError when it is already taken."""
        value = row.required(self.column)
        if value in self.lines:
            raise row.fault(
                f"the {self.column} '{value}' already stands in line {self.lines[value]}; "
                "every row needs its own, rename one of them."
            )
        self.lines[value] = row.line
        return value


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def rename_columns(header: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return `header` with the table's names replaced by the known ones; names: known column -> the table's name.

    A column whose name a renamed one takes over is left out of the reading ("" in its place).
    """
    known_by = {name: column for column, name in names.items()}
    return [known_by[cell] if cell in known_by else "" if cell in names else cell for cell in header]


def check_names(path: Path, header: Sequence[str], names: Mapping[str, str]) -> None:
    """Raise ManifestError when `header` lacks a column that is to be renamed."""
    for column, name in names.items():
        if name not in header:
            raise ManifestError(
                f"{path} line 1: the column '{name}', to be read as {column}, is missing, found {', '.join(header)}; "
                "correct data.columns or the table."
            )


def check_header(path: Path, header: Sequence[str], known: Sequence[str], required: Sequence[str]) -> None:
    """Raise ManifestError when a required column is missing, or one stands twice or is a misspelt known one."""
    if not any(header):
        raise ManifestError(f"{path} line 1: the file is empty; a header with {', '.join(required)} was expected.")
    for column in header:
        if column and header.count(column) > 1:
            raise ManifestError(f"{path} line 1: the column '{column}' stands twice; remove one of them.")
    for column in header:
        near = difflib.get_close_matches(column, known, n=1, cutoff=0.8)
        if column not in known and near and near[0] not in header:
            raise ManifestError(
                f"{path} line 1: unknown column '{column}', probably '{near[0]}' was meant; rename the column."
            )
    missing = [column for column in required if column not in header]
    if missing:
        raise ManifestError(
            f"{path} line 1: the required column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing, found {', '.join(header)}; "
            "add to the header what is missing (in lower case) and fill every row."
        )
