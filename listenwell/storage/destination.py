"""What may be replaced where a user says that something is to be written: our own work, and nothing else.

A note in the cache, written/HASH.json, holds the sha256 of every file that was written to a place. A file that is still
as noted is our own work, and so is a folder all of whose files are; these may be replaced, empty ones too. Anything
else is refused before the work starts, unless `overwrite` is given, which says on standard error what goes. What the
work reads is refused always. A kill between the writing and the note makes own work foreign, never the other way round.
Knows nothing of what the files are.
"""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listenwell.errors import ConfigError, ListenwellError
from listenwell.storage.atomic_files import NO_FILE, describe_fault, is_special, write_json
from listenwell.storage.load_or_make import cache_root, hash_file

SHOWN = 3
Identity = tuple[int, int] | None
"""Device and inode, which hard links share; None where nothing is."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A file or folder to be written. real: absolute, no symbolic links; before: what stood there before the work."""

    path: Path
    real: Path
    is_folder: bool
    before: Identity

    def files(self) -> Mapping[str, Path]:
        """What is lost when this place is replaced, by its name below it; empty files lose nothing."""
        if not self.is_folder:
            return {".": self.real} if os.path.isfile(self.real) and os.path.getsize(self.real) else {}
        unreadable: list[OSError] = []
        walked = list(os.walk(self.real, onerror=unreadable.append)) if os.path.isdir(self.real) else []
        inner = [Path(folder, name) for folder, folders, names in walked for name in (*names, *folders)]
        lost = [path for path in inner if path.is_symlink() or not path.is_dir()]
        # what cannot be looked into may hold anything
        lost += [Path(os.fsdecode(error.filename)) for error in unreadable]
        return {_text(path.relative_to(self.real)): path for path in sorted(lost)}

    @property
    def note_path(self) -> Path:
        """Where the cache notes what was written here."""
        return cache_root() / "written" / f"{hashlib.sha256(os.fsencode(self.real)).hexdigest()}.json"

    def foreign(self) -> list[str]:
        """The files that are not as they were noted; all of them where the note is gone, broken or another place's."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
            noted = dict(note["files"]) if note["place"] == _text(self.real) else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            noted = {}
        return [name for name, file in self.files().items() if name not in noted or _hash(file) != noted[name]]

    def is_written(self) -> bool:
        """True where something else stands now than before: what is replaced gets another inode."""
        return _identify(self.real) not in (None, self.before)

    def write_note(self) -> None:
        """Note what lies here now, as our own work."""
        try:
            hashes = {name: sha256 for name, file in self.files().items() if (sha256 := _hash(file))}
            write_json(self.note_path, {"place": _text(self.real), "files": hashes})
        except (OSError, ListenwellError) as error:
            problem = f"{self.path} was written, but the cache could not note it ({error})"
            print(f"listenwell: {problem}; to replace it, give --overwrite.", file=sys.stderr)


@contextmanager
def destinations(
    files: Iterable[Path | None] = (),
    folders: Iterable[Path | None] = (),
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    keep_own: bool = False,
) -> Iterator[Callable[[], None]]:
    """Check these places before the work of the block, and note what it wrote there.

    files, folders: None is a place not asked for, a folder is replaced as a whole.
    inputs: files and folders that the work reads, looked at only where something stands at a place. keep_own: own work
    is not replaced either, because others build on it. Yields what removes those of the files that were there and were
    not written again: beside the new ones they would be wrong. Raises ConfigError.
    """
    named = [(path, False) for path in files if path is not None]
    named += [(path, True) for path in folders if path is not None]
    places = [_Place(path, Path(os.path.realpath(path)), is_folder, _identify(path)) for path, is_folder in named]
    _require_possible(places)
    taken = [place for place in places if place.files() or (place.is_folder and os.path.isdir(place.real))]
    if taken:
        _require_replaceable(taken, inputs, overwrite=overwrite, keep_own=keep_own)

    def remove_rest() -> None:
        for place in taken:
            if not place.is_written() and not place.is_folder:
                place.real.unlink(missing_ok=True)

    try:
        yield remove_rest
    finally:
        for place in places:
            if place.is_written():
                place.write_note()


def _require_possible(places: Sequence[_Place]) -> None:
    """Raise ConfigError where no such file or folder can be written, or two places are one or in each other."""
    seen: set[Path] = set()
    whole = {place.real for place in places if place.is_folder}
    for place in places:
        if is_special(place.path):
            raise ConfigError(f"{place.path}: {NO_FILE}")
        if place.real in seen or not whole.isdisjoint(place.real.parents):
            raise ConfigError(f"{place.path}: would be written twice; give every output a place of its own.")
        seen.add(place.real)
        base = next((folder for folder in place.real.parents if os.path.lexists(folder)), place.real)
        number = 0
        if os.path.islink(place.real):
            number = errno.ELOOP
        elif os.path.exists(place.real) and os.path.isdir(place.real) != place.is_folder:
            number = errno.ENOTDIR if place.is_folder else errno.EISDIR
        elif not os.path.isdir(base):
            number = errno.ENOTDIR
        elif not os.access(base, os.W_OK | os.X_OK):
            number = errno.EACCES
        if number:
            raise ConfigError(describe_fault(place.path, number))


def _require_replaceable(taken: Sequence[_Place], inputs: Iterable[Path], *, overwrite: bool, keep_own: bool) -> None:
    """Raise ConfigError for a place that the work reads, that holds what it reads, or whose files are foreign."""
    read = {_identify(path): path for path in inputs}
    # a folder takes along what lies in it: these, and what is read, a link there too
    kept = [(Path(os.path.realpath(path)), path) for path in (Path.cwd(), Path(os.path.expanduser("~")), cache_root())]
    for path in read.values():
        kept += [(Path(os.path.realpath(path)).parent, path), (Path(os.path.realpath(path.absolute().parent)), path)]
    around = {_identify(outer): path for folder, path in kept for outer in (folder, *folder.parents)}
    for place in taken:
        if place.before in read:
            raise ConfigError(f"{place.path}: is read by this command and never written over; give another name.")
        if place.is_folder and place.before in around:
            raise ConfigError(
                f"{place.path}: holds {around[place.before]}, which must not be replaced; give a folder of its own."
            )
    for place in taken:
        if names := list(place.files()) if keep_own else place.foreign():
            _require_may_go(place, names, read, overwrite=overwrite, keep_own=keep_own)


def _require_may_go(
    place: _Place, names: Sequence[str], read: Mapping[Identity, Path], *, overwrite: bool, keep_own: bool
) -> None:
    """Raise ConfigError where the files of these names lie in what is read, or may not be overwritten."""
    for number in map(_identify, place.real.parents):
        if number in read:
            raise ConfigError(
                f"{place.path}: lies in {read[number]}, which this command reads, and listenwell did not write it; "
                "give another name."
            )
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    state = f"holds {', '.join(sorted(names)[:SHOWN])}{more}" if place.is_folder else "is there already"
    state += "" if keep_own else ", which is not known as listenwell's own, unchanged work"
    if not overwrite:
        raise ConfigError(f"{place.path}: {state}; give another name, or --overwrite to replace it.")
    print(f"listenwell: {place.path}: {state}; --overwrite replaces it.", file=sys.stderr)


def _identify(path: Path) -> Identity:
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _hash(file: Path) -> str:
    """The sha256 of a file, "" for a link and for what cannot be read."""
    try:
        return hash_file(file) if file.is_file() and not file.is_symlink() else ""
    except OSError:
        return ""


def _text(path: Path) -> str:
    """The path as JSON can hold it, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
