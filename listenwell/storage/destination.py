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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listenwell.errors import ConfigError, ListenwellError
from listenwell.storage.atomic_files import describe_fault, is_stream, watch_written, write_json
from listenwell.storage.load_or_make import cache_root, hash_file

SHOWN = 3
Identity = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A file or folder to be written. real: absolute, no symbolic links."""

    path: Path
    real: Path
    is_folder: bool

    def files(self) -> Mapping[str, Path]:
        """What is lost when this place is replaced, by its name below it; empty files lose nothing."""
        if not self.is_folder:
            return {".": self.real} if os.path.isfile(self.real) and os.path.getsize(self.real) else {}
        lost: list[Path] = []
        unreadable: list[OSError] = []
        for folder, folders, names in os.walk(self.real, onerror=unreadable.append) if os.path.isdir(self.real) else ():
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            lost += [Path(folder, name) for name in (*names, *links)]
        # what cannot be looked into may hold anything
        lost += [Path(os.fsdecode(error.filename)) for error in unreadable]
        return {_text(path.relative_to(self.real)): path for path in sorted(lost)}

    def foreign(self, *, keep_own: bool) -> set[str]:
        """The files that are not as they were noted; with keep_own all of them."""
        noted = {} if keep_own else self.read_note()
        return {name for name, file in self.files().items() if name not in noted or _hash(file) != noted[name]}

    @property
    def note_path(self) -> Path:
        """Where the cache notes what was written here."""
        return cache_root() / "written" / f"{hashlib.sha256(os.fsencode(self.real)).hexdigest()}.json"

    def read_note(self) -> Mapping[str, str]:
        """The hashes by name; none where there is no note, or it is broken or another place's."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
            return dict(note["files"]) if note["place"] == _text(self.real) else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def write_note(self) -> None:
        """Note what lies here now, as our own work."""
        try:
            hashes = {name: sha256 for name, file in self.files().items() if (sha256 := _hash(file))}
            write_json(self.note_path, {"place": _text(self.real), "files": hashes})
        except (OSError, ListenwellError) as error:
            print(
                f"listenwell: {self.path} was written, but the cache could not note it ({error}); to replace it, the "
                "same command will need --overwrite.",
                file=sys.stderr,
            )


def _hash(file: Path) -> str:
    """The sha256 of a file, "" for a link and for what cannot be read."""
    try:
        return hash_file(file) if file.is_file() and not file.is_symlink() else ""
    except OSError:
        return ""


@contextmanager
def destinations(
    files: Iterable[Path | None] = (),
    folders: Iterable[Path | None] = (),
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    keep_own: bool = False,
) -> Iterator["Written"]:
    """Check these places before the work of the block, and note what it wrote there.

    files, folders: None is a place not asked for, a folder is replaced as a whole; streams may always be written to.
    inputs: files and folders that the work reads, looked at only where something stands at a place. keep_own: own work
    is not replaced either, because others build on it. Raises ConfigError.
    """
    named = [(path, False) for path in files if path is not None and not is_stream(path)]
    named += [(path, True) for path in folders if path is not None]
    places = [_Place(path, Path(os.path.realpath(path)), is_folder) for path, is_folder in named]
    _require_apart(places)
    for place in places:
        _require_possible(place)
    taken = [place for place in places if place.files() or (place.is_folder and os.path.isdir(place.real))]
    if taken:
        read, around = _protected(inputs)
        for place in taken:
            _require_unread(place, read, around)
    foreign = {place.real: place.foreign(keep_own=keep_own) for place in places}
    for place in taken:
        if names := foreign[place.real]:
            state = f"holds {_shown(names)}" if place.is_folder else "is there already"
            state += "" if keep_own else ", which is not known as listenwell's own, unchanged work"
            _require_may_go(place, state, read, overwrite=overwrite)

    def check(real: Path) -> None:
        """What somebody put there since the work began stays."""
        for place in places:
            if place.real == real and (new := place.foreign(keep_own=keep_own) - foreign[real]):
                raise ConfigError(f"{place.path}: somebody else wrote {_shown(new)} meanwhile; it stays.")

    with watch_written(check) as written:
        try:
            yield Written(taken, written)
        finally:
            for place in places:
                if place.real in written:
                    place.write_note()


@dataclass(frozen=True, slots=True)
class Written:
    """What stood at the places before, and every path that was written since."""

    taken: Sequence[_Place]
    paths: set[Path]

    def remove_rest(self) -> None:
        """Remove the files that were there and were not written again: beside the new ones they would be wrong."""
        for place in self.taken:
            if place.real not in self.paths and not place.is_folder:
                place.real.unlink(missing_ok=True)


def _require_apart(places: Sequence[_Place]) -> None:
    """Raise ConfigError where two places are one, or one lies in a folder that is replaced as a whole."""
    seen: set[Path] = set()
    whole = {place.real for place in places if place.is_folder}
    for place in places:
        if place.real in seen or not whole.isdisjoint(place.real.parents):
            raise ConfigError(f"{place.path}: would be written twice; give every output a place of its own.")
        seen.add(place.real)


def _require_possible(place: _Place) -> None:
    """Raise ConfigError where no such file or folder can be written."""
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


def _identify(path: Path) -> Identity:
    """Device and inode, which hard links share; None where nothing is there."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _protected(inputs: Iterable[Path]) -> tuple[dict[Identity, Path], dict[Identity, Path]]:
    """What the work reads, and the folders around that, which may not be replaced as a whole."""
    read = {_identify(path): path for path in inputs}
    # a link in a folder is read there too
    folders = {Path(os.path.realpath(path)).parent: path for path in read.values()}
    folders |= {Path(os.path.realpath(path.absolute().parent)): path for path in read.values()}
    # replaced, these would take along what nobody has named
    folders |= {
        Path(os.path.realpath(path)): path for path in (Path.cwd(), Path(os.path.expanduser("~")), cache_root())
    }
    around = {_identify(outer): path for folder, path in folders.items() for outer in (folder, *folder.parents)}
    for numbers in (read, around):
        numbers.pop(None, None)
    return read, around


def _require_unread(place: _Place, read: Mapping[Identity, Path], around: Mapping[Identity, Path]) -> None:
    number = _identify(place.real)
    if number in read:
        raise ConfigError(f"{place.path}: is read by this command and never written over; give another name.")
    if place.is_folder and number in around:
        raise ConfigError(
            f"{place.path}: holds {around[number]}, which must not be replaced; give a folder of its own."
        )


def _require_may_go(place: _Place, state: str, read: Mapping[Identity, Path], *, overwrite: bool) -> None:
    """Raise ConfigError where the foreign files at the place lie in what is read, or may not be overwritten."""
    for number in map(_identify, place.real.parents):
        if number in read:
            raise ConfigError(
                f"{place.path}: lies in {read[number]}, which this command reads, and listenwell did not write it; "
                "give another name."
            )
    if not overwrite:
        raise ConfigError(f"{place.path}: {state}; give another name, or --overwrite to replace it.")
    print(f"listenwell: {place.path}: {state}; --overwrite replaces it.", file=sys.stderr)


def _shown(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _text(path: Path) -> str:
    """The path as JSON can hold it, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
