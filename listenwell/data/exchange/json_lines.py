"""JSON Lines, plain or gzip-compressed: one object per line, every fault with its file and line."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.atomic_files import atomic_path
from listenwell.data.csv_rows import Record, open_text
from listenwell.errors import ManifestError


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
    """Yield the lines of the file as rows of a table (listenwell.data.csv_rows). Raises ManifestError."""
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
