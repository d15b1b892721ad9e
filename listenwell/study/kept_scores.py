"""Score tables on disk, and the note beside each that says what it was made from and holds its hash."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from listenwell.atomic_files import remove_left_over
from listenwell.cache import one_maker
from listenwell.errors import ManifestError
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.load_or_make import Made, load_or_make_all
from listenwell.vouched_files import require_files


def load_or_make_scores(
    places: Mapping[int, Path], made_from: Mapping[str, Any], score: Callable[[Sequence[int]], Sequence[ScoreTable]]
) -> dict[int, ScoreTable]:
    """Return the tables kept at `places` (CSV, beside their fits), those missing scored together and kept.

    Studies that share the fits come in turn. Raises ManifestError where a table was changed.
    """
    keys, paths = list(places), list(places.values())

    def make(missing: Sequence[int]) -> list[Made]:
        for position, table in zip(missing, score([keys[position] for position in missing]), strict=True):
            write_scores(paths[position], table)
        return [Made({}, [paths[position]]) for position in missing]

    load_or_make_all(
        [path.with_suffix(".json") for path in paths], made_from, make, ManifestError, lambda: _alone(paths)
    )
    return {key: read_scores(path) for key, path in places.items()}


@contextmanager
def _alone(paths: Sequence[Path]) -> Iterator[None]:
    """Hold the folders of these tables; what killed writers left in them goes."""
    with ExitStack() as held:
        for folder in sorted({path.parent for path in paths}):
            held.enter_context(one_maker(folder))
            remove_left_over(folder)
        yield


def read_kept_scores(table: Path, note: Path) -> ScoreTable:
    """Return the table after checking it against the hash in its note, which lies beside it.

    Raises ManifestError when one of them is missing, broken, or was changed.
    """
    require_files(note, [table.name], ManifestError)
    return read_scores(table)
