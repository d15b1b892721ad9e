"""Keep what was made, and use it again for the same thing alone: the one place that decides so.

What is cached is a checksummed JSON file and, beside it, the files it names:

    {..., "made_from": {...}, "files_sha256": {"history.json": "9f86d0..."}, "own_sha256": "2c26b4..."}

own_sha256 is the hash of everything else in the object as canonical JSON, files_sha256 names files relative to the
JSON file's folder, so that a bit that flipped on the disk is found. made_from holds what it was made from, as named
JSON values: hashes of clips by field (listenwell.data.clip), settings, versions. Where one of them differs, or a file
is gone, the thing is made again, and one line says why. What is damaged is refused by name, never made again unasked:
scores of a test that change in silence would be new scores. Knows nothing of what the files are.

Downloaded weights and recordings lie in the cache: one folder per user, shared by all studies. What takes long to make
is written into a journal value by value, so that work which was killed does not compute it again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.errors import CheckpointError, ListenwellError
from listenwell.storage.atomic_files import (
    companion,
    disk_faults_named,
    hold_lock,
    make_folder,
    remove_left_over,
    write_json,
)

VARIABLE = "LISTENWELL_CACHE"
MADE_FROM, FILES, OWN = "made_from", "files_sha256", "own_sha256"
N_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Made:
    """value: JSON values by name, none called as those above. write: writes the files that are kept in or below the
    same folder, once the old ones are no longer named, and returns them.
    """

    value: Mapping[str, Any]
    write: Callable[[], Sequence[Path]] = lambda: ()


def load_or_make(
    path: Path, made_from: Mapping[str, Any], make: Callable[[], Made], kind: type[ListenwellError] = CheckpointError
) -> dict[str, Any]:
    """Return the value kept at `path` where it was made from the same things, otherwise make it and keep it.

    Whoever shares `path` with other processes holds a lock meanwhile. Raises `kind` when what is kept, or a file beside
    it, was changed or damaged.
    """
    return load_or_make_all({path: made_from}, lambda missing: {path: make()}, kind)[path]


def load_or_make_all(
    made_from: Mapping[Path, Mapping[str, Any]],
    make: Callable[[Sequence[Path]], Mapping[Path, Made]],
    kind: type[ListenwellError] = CheckpointError,
) -> dict[Path, dict[str, Any]]:
    """`load_or_make` of several things, each with what it is made from; make: makes all that are missing, together."""
    wanted = {path: _as_read(of_path) for path, of_path in made_from.items()}
    reasons: dict[str, list[Path]] = {}
    cached = {path: _load(path, wanted[path], kind, reasons) for path in wanted}
    for why, paths in reasons.items():
        which = f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more are"
        _say(f"{which} made again: {why}")
    missing = [path for path, value in cached.items() if value is None]
    made = make(missing) if missing else {}
    for path in missing:
        value = _as_read(made[path].value)
        path.unlink(missing_ok=True)
        write_checksummed(path, {MADE_FROM: wanted[path], **value}, made[path].write())
        cached[path] = value
    return {path: value for path, value in cached.items() if value is not None}


def is_kept(path: Path, made_from: Mapping[str, Any], kind: type[ListenwellError] = CheckpointError) -> bool:
    """True when `load_or_make` would make nothing. Raises `kind` as it does."""
    return _load(path, _as_read(made_from), kind, {}) is not None


def _as_read(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON gives it back."""
    return dict(json.loads(json.dumps(content, allow_nan=False)))


def _say(line: str) -> None:
    print(f"listenwell: {line}", file=sys.stderr)


def _load(
    path: Path, wanted: Mapping[str, Any], kind: type[ListenwellError], reasons: dict[str, list[Path]]
) -> dict[str, Any] | None:
    """The value at `path`; None where there is none, or one made from other things, which is added to `reasons`."""
    if not path.is_file():
        return None
    content = read_checksummed(path, kind)
    made_from = content.pop(MADE_FROM, {})
    if made_from != wanted:
        changed = list(_differing(made_from, wanted))
        more = f" and {len(changed) - N_SHOWN} more" if len(changed) > N_SHOWN else ""
        reasons.setdefault(f"changed since: {', '.join(changed[:N_SHOWN])}{more}.", []).append(path)
        return None
    gone = [name for name in file_hashes(path, kind) if not (path.parent / name).exists()]
    if gone:
        reasons.setdefault(f"{gone[0]} is gone.", []).append(path)
        return None
    require_files(path, kind=kind)
    return content


def _differing(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Which values differ, inner ones named behind a dot."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield place or "the version that made it"
        return
    for name in dict.fromkeys([*other, *one]):
        if one.get(name) != other.get(name):
            yield from _differing(one.get(name), other.get(name), f"{place}.{name}" if place else name)


# Checksummed files


def write_checksummed(path: Path, content: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
    """Write `content` to `path` atomically, with its hash and those of `files`, which lie in or below its folder."""
    hashes = {file.relative_to(path.parent).as_posix(): hash_file(file) for file in files}
    write_json(path, with_own_hash({**content, FILES: hashes} if hashes else content))


def read_checksummed(path: Path, kind: type[ListenwellError] = CheckpointError) -> dict[str, Any]:
    """Return the content written to `path`. Raises `kind` when it is missing, broken or was changed.

    The files it names are not looked at: `require_files` does.
    """
    content = without_own_hash(path, read_object(path, kind), kind)
    return {key: value for key, value in content.items() if key != FILES}


def without_own_hash(
    path: Path, content: Mapping[str, Any], kind: type[ListenwellError] = CheckpointError
) -> dict[str, Any]:
    """Return the object read from `path` without its own hash, after checking it. Raises `kind`."""
    rest = {key: value for key, value in content.items() if key != OWN}
    if OWN not in content:
        _say(f"{path} holds no hash of itself (made by an older version); not checked.")
    elif (sha256 := hash_content(rest)) != content[OWN]:
        raise kind(_changed(path, sha256, content[OWN], "it"))
    return rest


def read_object(path: Path, kind: type[ListenwellError]) -> dict[str, Any]:
    """Return the JSON object in the file. Raises `kind`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path}: cannot be read ({error}); delete it and run the command again.") from error
    if not isinstance(content, dict):
        raise kind(f"{path}: holds no JSON object; delete it and run the command again.")
    return content


def file_hashes(path: Path, kind: type[ListenwellError] = CheckpointError) -> dict[str, str]:
    """The hashes of the files that the object at `path` names. Raises `kind`."""
    hashes = read_object(path, kind).get(FILES, {})
    if not isinstance(hashes, dict) or not all(isinstance(sha256, str) for sha256 in hashes.values()):
        raise kind(f"{path}: its {FILES} holds no hashes by name; delete it and run the command again.")
    return hashes


def require_files(
    path: Path,
    names: Sequence[str] | None = None,
    kind: type[ListenwellError] = CheckpointError,
    leaving_out: Sequence[str] = (),
) -> None:
    """Check the files that the object at `path` names; names: these alone, None for all but those left out.

    Raises `kind` naming the first that is missing or was changed.
    """
    hashes = file_hashes(path, kind)
    for name in (name for name in hashes if name not in leaving_out) if names is None else names:
        file = path.parent / name
        if name in hashes and (sha256 := hash_file(file) if file.is_file() else "no file") != hashes[name]:
            raise kind(_changed(file, sha256, hashes[name], f"it and {path}"))


def with_own_hash(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with its hash at the end."""
    return {**content, OWN: hash_content(json.loads(json.dumps(content)))}  # as it will be read: keys are text


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_content(content: Any) -> str:
    """The sha256 of JSON values as canonical JSON; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _changed(path: Path, sha256: str, expected: Any, both: str) -> str:
    return (
        f"{path}: was changed or damaged since it was written (sha256 {sha256[:12]}, expected {str(expected)[:12]}); "
        f"restore it from a copy, or delete {both} and run the command again."
    )


# The cache


def cache_root() -> Path:
    """Return the folder named by LISTENWELL_CACHE, else ~/.cache/listenwell; it may not exist yet.

    Where no home folder is known nothing can be made in it, so that only what must write there fails.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(os.path.abspath(chosen))
    home = os.path.expanduser("~")  # "~" itself for a user the system does not know
    return Path(os.devnull if home == "~" else os.path.abspath(home), ".cache", "listenwell")


@contextmanager
def cache_faults_named(path: Path) -> Iterator[None]:
    """Say of a `path` in the cache that cannot be written which variable names another one; other paths pass."""
    try:
        yield
    except (OSError, ListenwellError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or not path.is_relative_to(cache_root()):
            raise
        raise ListenwellError(
            f"{path}: the cache of weights and recordings cannot be written ({cause.strerror}); set {VARIABLE} to a "
            "folder you may write to."
        ) from error


@contextmanager
def one_maker(path: Path) -> Iterator[None]:
    """Make `path` alone: whoever else wants to waits here, and looks again. What makers that were killed left goes.

    The lock file beside it goes once `path` is there, which nobody makes again.
    """
    lock = companion(path, ".lock")
    with ExitStack() as held:
        with cache_faults_named(path):
            held.enter_context(hold_lock(lock, f"another process makes {path}"))
        try:
            remove_left_over(path.parent, path.name)
            yield
        finally:
            if path.exists():
                lock.unlink(missing_ok=True)


# Journals


class Journal:
    """Values kept as they are computed: JSON lines of owner, key, value and their hash, each flushed to the disk.

    A line that a kill cut or a disk changed is passed over; numbers come back to the bit. Lines of several runs may
    stand in any order and more than once: values that form a sequence say which place they have in it.

    owner: what values depend on besides their keys; another owner's lines are passed over.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        make_folder(path.parent)
        self._known: dict[str, list[Any]] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            with suppress(ValueError, RecursionError, TypeError, KeyError):  # no record: the line was cut
                record = json.loads(line)
                is_whole = hash_content({key: record[key] for key in record if key != OWN}) == record[OWN]
                if is_whole and record["owner"] == owner:
                    self._known.setdefault(record["key"], []).append(record["value"])

    def keys(self) -> list[str]:
        """Keys of earlier runs."""
        return list(self._known)

    def known(self, key: str) -> list[Any]:
        """The values that earlier runs kept under this key, in their order."""
        return self._known.get(key, [])

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
