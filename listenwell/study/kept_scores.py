"""Score tables on disk, and the note beside them that says what they were made from and holds their hashes."""

from pathlib import Path

from listenwell.errors import ManifestError
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.vouched_files import read_vouched, require_files


def read_kept_scores(table: Path, note: Path) -> ScoreTable:
    """Return the table after checking it against the hash in its note, which lies beside it.

    Raises ManifestError when one of them is missing, broken, or was changed.
    """
    require_files(note, read_vouched(note, ManifestError), [table.name], ManifestError)
    return read_scores(table)
