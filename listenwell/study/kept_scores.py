"""Score tables on disk, and the note beside them that says what they were made from and holds their hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from listenwell.atomic_files import remove_left_over
from listenwell.cache import one_maker
from listenwell.errors import ManifestError
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.vouched_files import read_vouched, require_files, write_vouched


def keep_scores(path: Path, table: ScoreTable, made_from: Mapping[str, Any]) -> None:
    """Write a table beside its fit, and the note beside the table; studies that share the fit write in turn."""
    with one_maker(path.parent):
        remove_left_over(path.parent)
        write_scores(path, table)
        write_vouched(path.with_suffix(".json"), made_from, [path])


def read_kept_scores(table: Path, note: Path) -> ScoreTable:
    """Return the table after checking it against the hash in its note, which lies beside it.

    Raises ManifestError when one of them is missing, broken, or was changed.
    """
    require_files(note, read_vouched(note, ManifestError), [table.name], ManifestError)
    return read_scores(table)
