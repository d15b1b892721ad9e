"""Score tables on disk, and the note beside each that says what it was made from and holds its hash."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.atomic_files import remove_left_over
from listenwell.cache import one_maker
from listenwell.errors import ManifestError
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.load_or_make import Made, is_kept, load_or_make_all
from listenwell.vouched_files import require_files, vouched_files


def load_or_make_scores(
    places: Mapping[int, Path], made_from: Mapping[str, Any], score: Callable[[Sequence[int]], Sequence[ScoreTable]]
) -> dict[int, ScoreTable]:
    """Return the tables kept at `places` (CSV, beside fits of one ledger), those missing scored together and kept.

    Studies that share the ledger write in turn, and none reads what another wrote meanwhile. Raises ManifestError where
    a table was changed.
    """
    keys, paths = list(places), list(places.values())
    notes = [path.with_suffix(".json") for path in paths]
    if not paths:
        return {}

    def are_kept() -> bool:
        return all(is_kept(note, made_from, ManifestError) for note in notes)

    def make(missing: Sequence[int]) -> list[Made]:
        tables = score([keys[position] for position in missing])
        return [_made(paths[position], table) for position, table in zip(missing, tables, strict=True)]

    if are_kept():
        tables = {key: read_scores(path) for key, path in places.items()}
        # a note goes before its table is written
        if are_kept():
            return tables
    fits = paths[0].parents[2]
    with one_maker(fits):
        for path in paths:
            remove_left_over(path.parent)
        load_or_make_all(notes, made_from, make, ManifestError)
        return {key: read_scores(path) for key, path in places.items()}


def _made(path: Path, table: ScoreTable) -> Made:
    def write() -> list[Path]:
        write_scores(path, table)
        return [path]

    return Made({}, write)


def read_kept_scores(table: Path, note: Path) -> ScoreTable:
    """Return the table after checking it against the hash in its note, which lies beside it.

    Raises ManifestError when one of them is missing, broken, or was changed.
    """
    vouched = vouched_files(note, ManifestError)
    if vouched and table.name not in vouched:
        raise ManifestError(f"{table}: is of an earlier run, {note.name} does not name it; score it again.")
    require_files(note, [table.name], ManifestError)
    return read_scores(table)
