"""Values kept as they are found, so that work which was killed does not find them again.

A journal is a file of JSON lines: whose they are, under which key, the value, their hash. It is written line by line,
each on the disk before the next, and goes when the work is done. A line that a kill cut or a disk changed is passed
over. Numbers come back to the
bit, because JSON's decimals of a float64 do.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from listenwell.atomic_files import disk_faults_named, make_folder
from listenwell.vouched_files import is_whole, with_own_hash


class Journal:
    """The file at `path`. owner: what values depend on besides their keys; another owner's lines are passed over."""

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        self._known: dict[str, list[Any]] = {}
        for record in _read_lines(path):
            if record["owner"] == owner:
                self._known.setdefault(record["key"], []).append(record["value"])
        make_folder(path.parent)

    def keys(self) -> list[str]:
        """Keys of earlier runs."""
        return list(self._known)

    def known(self, key: str) -> list[Any]:
        """The values that earlier runs kept under this key, in their order."""
        return self._known[key] if key in self._known else []

    def keep(self, key: str, value: Any) -> None:
        """Put one more value, of JSON's kinds, on the disk. Raises ListenwellError when the disk is full."""
        line = json.dumps(with_own_hash({"owner": self.owner, "key": key, "value": value}), allow_nan=False)
        with disk_faults_named(self.path), self.path.open("a", encoding="utf-8") as file:
            # a line cut by a kill must not swallow this one
            file.write(f"\n{line}\n" if file.tell() else f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file: the work is done."""
        self.path.unlink(missing_ok=True)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole records of a journal; a line that is no record was cut."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if is_whole(record, {"owner", "key", "value"}) and isinstance(record["key"], str):
            yield record
