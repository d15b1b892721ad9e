"""Keep what was made, and use it again for the same thing alone: the one place that decides so.

What is kept is a checksummed JSON file and, beside it, the files it names. Under `made_from`
it holds what it was made from, as named JSON values: hashes of clips by field (listenwell.data.clip), settings,
versions. Where one of them differs, or a file is gone, the thing is made again, and one line says why. What is damaged
is refused by name, never made again unasked: scores of a test that change in silence would be new scores.

JSON that holds its own hash and those of files beside it, so that a bit that flipped on the disk is found.

    {..., "files_sha256": {"history.json": "9f86d0..."}, "own_sha256": "2c26b4..."}

own_sha256 is the hash of everything else in the object as canonical JSON; files_sha256 names files relative to the
JSON file's folder, and is there only when it vouches for any. Content that has a key of one of these names itself is
kept apart from them, as {"content": {...}, "own_sha256": "..."}. Runs of older versions hold no hashes; they are read,
and said to be unchecked. Knows nothing of what the files are.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.errors import CheckpointError, ListenwellError
from listenwell.storage.atomic_files import write_json

CONTENT, FILES, OWN = "content", "files_sha256", "own_sha256"
ENVELOPE = frozenset((CONTENT, FILES, OWN))


def write_vouched(path: Path, content: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
    """Write `content` to `path` atomically, with its hash and those of `files`, which lie in or below its folder."""
    write_json(path, with_own_hash(content, {f.relative_to(path.parent).as_posix(): hash_file(f) for f in files}))


def read_vouched(path: Path, kind: type[ListenwellError] = CheckpointError) -> dict[str, Any]:
    """Return the content written to `path`. Raises `kind` when it is missing, broken or was changed.

    The files it vouches for are not looked at: `require_files` does.
    """
    return without_own_hash(path, _read_object(path, kind), kind)


def _read_object(path: Path, kind: type[ListenwellError]) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path}: cannot be read ({error}); delete it and run the command again.") from error
    if not isinstance(read, dict):
        raise kind(f"{path}: holds no JSON object; delete it and run the command again.")
    return read


def with_own_hash(content: Mapping[str, Any], files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return `content` with the hashes of `files`, where there are any, and its own hash at the end."""
    sealed = {CONTENT: content} if ENVELOPE & content.keys() else dict(content)
    if files:
        sealed[FILES] = dict(files)
    plain = json.loads(json.dumps(sealed))  # as it will be read: keys are text
    return {**sealed, OWN: hash_content(plain)}


def without_own_hash(
    path: Path, read: Mapping[str, Any], kind: type[ListenwellError] = CheckpointError
) -> dict[str, Any]:
    """Return the content of the object `read` from `path` after checking its hash. Raises `kind`."""
    sealed = {key: value for key, value in read.items() if key != OWN}
    if OWN not in read:
        print(f"listenwell: {path} holds no hash of itself (made by an older version); not checked.", file=sys.stderr)
    elif (found := hash_content(sealed)) != read[OWN]:
        raise kind(_changed(path, found, read[OWN]))
    content = {key: value for key, value in sealed.items() if key != FILES}
    inner = content[CONTENT] if content.keys() == {CONTENT} else content
    if not isinstance(inner, dict):
        raise kind(f"{path}: its content is no JSON object; delete it and run the command again.")
    return inner


def is_whole(content: Any, keys: Set[str]) -> bool:
    """True when `content` is an object of these keys and its own hash, and the hash is right."""
    if not isinstance(content, dict) or content.keys() != keys | {OWN}:
        return False
    return bool(hash_content({key: content[key] for key in keys}) == content[OWN])


def require_files(
    path: Path,
    names: Sequence[str] | None = None,
    kind: type[ListenwellError] = CheckpointError,
    leaving_out: Sequence[str] = (),
) -> None:
    """Check the files that the object at `path` vouches for; names: these alone, None for all but those left out.

    Raises `kind` naming the first that is missing or was changed. One that an older version made vouches for none.
    """
    hashes = vouched_files(path, kind)
    for name in (name for name in hashes if name not in leaving_out) if names is None else names:
        file = path.parent / name
        if name in hashes and (found := hash_file(file) if file.is_file() else "no file") != hashes[name]:
            raise kind(_changed(file, found, hashes[name], also=path))


def vouched_files(path: Path, kind: type[ListenwellError] = CheckpointError) -> dict[str, str]:
    """The hashes of the files that the object at `path` vouches for, by name. Raises `kind`."""
    read = _read_object(path, kind)
    hashes = read[FILES] if FILES in read else {}
    if not isinstance(hashes, dict) or not all(isinstance(each, str) for each in hashes.values()):
        raise kind(f"{path}: its {FILES} holds no hashes by name; delete it and run the command again.")
    return hashes


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_content(content: Any) -> str:
    """The sha256 of JSON values as canonical JSON; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _changed(path: Path, found: str, expected: Any, also: Path | None = None) -> str:
    both = f"it and {also}" if also else "it"
    return (
        f"{path}: was changed or damaged since it was written (sha256 {found[:12]}, expected {str(expected)[:12]}); "
        f"restore it from a copy, or delete {both} and run the command again."
    )


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
