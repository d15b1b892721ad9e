"""Keep what was made, and use it again for the same thing alone: the one place that decides so.

What is kept is a checksummed JSON file (listenwell.vouched_files) and, beside it, the files it names. Under `made_from`
it holds what it was made from, as named JSON values: hashes of clips by field (listenwell.data.clip), settings,
versions. Where one of them differs, or a file is gone, the thing is made again, and one line says why. What is damaged
is refused by name, never made again unasked: scores of a test that change in silence would be new scores.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.errors import CheckpointError, ListenwellError
from listenwell.vouched_files import read_vouched, require_files, vouched_files, write_vouched

MADE_FROM = "made_from"
N_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Made:
    """value: JSON values by name, none called "made_from". write: writes the files that are kept in or below the same
    folder, once the old ones vouch for nothing any more, and returns them.
    """

    value: Mapping[str, Any]
    write: Callable[[], Sequence[Path]] = lambda: ()


def load_or_make(
    path: Path,
    made_from: Mapping[str, Any],
    make: Callable[[], Made],
    kind: type[ListenwellError] = CheckpointError,
) -> dict[str, Any]:
    """Return the value kept at `path` where it was made from the same things, otherwise make it and keep it.

    Whoever shares `path` with other processes holds a lock meanwhile. Raises `kind` when what is kept, or a file beside
    it, was changed or damaged.
    """
    return load_or_make_all([path], made_from, lambda missing: [make() for _ in missing], kind)[0]


def load_or_make_all(
    paths: Sequence[Path],
    made_from: Mapping[str, Any],
    make: Callable[[Sequence[int]], Sequence[Made]],
    kind: type[ListenwellError] = CheckpointError,
) -> list[dict[str, Any]]:
    """`load_or_make` of several things that are made together; make: from the positions of those missing, in order."""
    wanted = _plain(made_from)
    kept = [_load(path, wanted, kind, _say) for path in paths]
    missing = [position for position, value in enumerate(kept) if value is None]
    for position, made in zip(missing, make(missing) if missing else [], strict=True):
        path, value = paths[position], _plain(made.value)
        path.unlink(missing_ok=True)
        write_vouched(path, {MADE_FROM: wanted, **value}, made.write())
        kept[position] = value
    return [value for value in kept if value is not None]


def is_kept(path: Path, made_from: Mapping[str, Any], kind: type[ListenwellError] = CheckpointError) -> bool:
    """True when `load_or_make` would make nothing. Raises `kind` as it does."""
    return _load(path, _plain(made_from), kind, lambda line: None) is not None


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON gives it back."""
    return dict(json.loads(json.dumps(content, allow_nan=False)))


def _say(line: str) -> None:
    print(f"listenwell: {line}", file=sys.stderr)


def _load(
    path: Path, wanted: Mapping[str, Any], kind: type[ListenwellError], say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The value at `path`; None where there is none, or one made from other things."""
    if not path.is_file():
        return None
    content = read_vouched(path, kind)
    kept = content.pop(MADE_FROM, None)
    if kept != wanted:
        say(f"{path} is made again: {_reason(kept, wanted)}.")
        return None
    gone = [name for name in vouched_files(path, kind) if not (path.parent / name).exists()]
    if gone:
        say(f"{path} is made again: {gone[0]} is gone.")
        return None
    require_files(path, kind=kind)
    return content


def _reason(kept: Any, wanted: Mapping[str, Any]) -> str:
    """Which of the things it was made from changed, named as in `made_from`, the inner ones behind a dot."""
    if not isinstance(kept, dict):
        return "an older version made it"
    names = list(_differing(kept, wanted))
    shown = ", ".join(names[:N_SHOWN]) + (f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else "")
    return f"changed since: {shown}"


def _differing(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*wanted, *kept]):
        one, other = (side[name] if name in side else None for side in (kept, wanted))
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{name}.{inner}" for inner in _differing(one, other))
        elif one != other:
            yield name
