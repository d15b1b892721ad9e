"""JSON that holds its own hash and those of files beside it, so that a bit that flipped on the disk is found.

    {..., "files_sha256": {"history.json": "9f86d0..."}, "own_sha256": "2c26b4..."}

own_sha256 is the hash of everything else in the object as canonical JSON; files_sha256 names files relative to the
JSON file's folder, and is there only when it vouches for any. Runs of older versions hold neither; they are read,
and said to be unchecked. Knows nothing of what the files are.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from listenwell.atomic_files import write_json
from listenwell.errors import CheckpointError, ListenwellError

OWN, FILES = "own_sha256", "files_sha256"


def write_vouched(path: Path, content: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
    """Write `content` to `path` atomically, with its hash and those of `files`, which lie in or below its folder."""
    hashes = {file.relative_to(path.parent).as_posix(): hash_file(file) for file in files}
    write_json(path, with_own_hash({**content, FILES: hashes} if hashes else content))


def read_vouched(path: Path, kind: type[ListenwellError] = CheckpointError) -> dict[str, Any]:
    """Return the object at `path` without its own hash. Raises `kind` when it is missing, broken or was changed.

    The files it vouches for are not looked at: `require_files` does.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path}: cannot be read ({error}); delete it and run the command again.") from error
    if not isinstance(content, dict):
        raise kind(f"{path}: holds no JSON object; delete it and run the command again.")
    return without_own_hash(path, content, kind)


def with_own_hash(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with its hash at the end."""
    plain = json.loads(json.dumps(content))  # as it will be read: keys are text
    return {**content, OWN: hash_content(plain)}


def without_own_hash(
    path: Path, content: Mapping[str, Any], kind: type[ListenwellError] = CheckpointError
) -> dict[str, Any]:
    """Return `content` without its hash after checking it; `path` is the file it was read from. Raises `kind`."""
    rest = {key: value for key, value in content.items() if key != OWN}
    if OWN not in content:
        print(f"listenwell: {path} holds no hash of itself (made by an older version); not checked.", file=sys.stderr)
    elif (found := hash_content(rest)) != content[OWN]:
        raise kind(_changed(path, found, content[OWN]))
    return rest


def is_whole(content: Any, keys: Set[str]) -> bool:
    """True when `content` is an object of these keys and its own hash, and the hash is right."""
    if not isinstance(content, dict) or content.keys() != keys | {OWN}:
        return False
    return bool(hash_content({key: content[key] for key in keys}) == content[OWN])


def require_files(
    path: Path,
    content: Mapping[str, Any],
    names: Sequence[str] | None = None,
    kind: type[ListenwellError] = CheckpointError,
) -> None:
    """Check the files that the object read from `path` vouches for; names: these alone, None for all of them.

    Raises `kind` naming the first that is missing or was changed. One that an older version made vouches for none.
    """
    hashes = content[FILES] if FILES in content else {}
    if not isinstance(hashes, dict) or not all(isinstance(each, str) for each in hashes.values()):
        raise kind(f"{path}: its {FILES} holds no hashes by name; delete it and run the command again.")
    for name in hashes if names is None else names:
        file = path.parent / name
        if name in hashes and (found := hash_file(file) if file.is_file() else "no file") != hashes[name]:
            raise kind(_changed(file, found, hashes[name], also=path))


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_content(content: Mapping[str, Any]) -> str:
    """The sha256 of JSON values as canonical JSON; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _changed(path: Path, found: str, expected: Any, also: Path | None = None) -> str:
    both = f"it and {also}" if also else "it"
    return (
        f"{path}: was changed or damaged since it was written (sha256 {found[:12]}, expected {str(expected)[:12]}); "
        f"restore it from a copy, or delete {both} and run the command again."
    )
