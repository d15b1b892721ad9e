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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listenwell.errors import ConfigError, ListenwellError
from listenwell.storage.atomic_files import describe_fault, is_stream, watch_written, write_json
from listenwell.storage.cache import cache_root
from listenwell.storage.load_or_make import hash_file

NOTES = "written"
SHOWN = 3
LONGEST_NAME = 255
"""In bytes, where the disk does not say."""
FileId = tuple[int, int]


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
        found: list[Path] = []
        unreadable: list[OSError] = []
        for folder, folders, names in os.walk(self.real, onerror=unreadable.append) if os.path.isdir(self.real) else ():
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            found += [Path(folder, name) for name in (*names, *links)]
        # what cannot be looked into may hold anything
        found += [Path(os.fsdecode(error.filename)) for error in unreadable]
        return {_text(each.relative_to(self.real)): each for each in sorted(found)}


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
    places = [_place(path, is_folder=False) for path in files if path is not None and not is_stream(path)]
    places += [_place(path, is_folder=True) for path in folders if path is not None]
    _require_apart(places)
    for place in places:
        _require_possible(place)
    taken = [place for place in places if place.files() or (place.is_folder and os.path.isdir(place.real))]
    if taken:
        read = _Inputs(inputs)
        for place in taken:
            _require_ours(place, read, overwrite=overwrite, keep_own=keep_own)
    foreign = {place.real: set(_foreign(place, keep_own=keep_own)) for place in places}

    def check(real: Path) -> None:
        """What somebody put there since the work began stays."""
        for place in places:
            if place.real == real and (new := set(_foreign(place, keep_own=keep_own)) - foreign[real]):
                raise ConfigError(f"{place.path}: somebody else wrote {_shown(sorted(new))} meanwhile; it stays.")

    with watch_written(check) as written:
        try:
            yield Written(taken, written)
        finally:
            for place in places:
                if place.real in written:
                    _note(place)


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


def _place(path: Path, *, is_folder: bool) -> _Place:
    return _Place(path, Path(os.path.realpath(path)), is_folder)


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
    if os.path.islink(place.real):
        raise _impossible(place, errno.ELOOP)
    if os.path.exists(place.real) and os.path.isdir(place.real) != place.is_folder:
        raise _impossible(place, errno.ENOTDIR if place.is_folder else errno.EISDIR)
    base = next((each for each in place.real.parents if os.path.lexists(each)), place.real)
    if not os.path.isdir(base):
        raise _impossible(place, errno.ENOTDIR)
    if any(len(os.fsencode(name)) > _longest_name(base) for name in place.real.relative_to(base).parts):
        raise _impossible(place, errno.ENAMETOOLONG)
    if not os.access(base, os.W_OK | os.X_OK):
        raise _impossible(place, errno.EACCES)


def _impossible(place: _Place, number: int) -> ConfigError:
    return ConfigError(describe_fault(place.path, number))


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return LONGEST_NAME


class _Inputs:
    """What the work reads, by the system's number of each file and folder, and the folders around it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.read: dict[FileId, Path] = {}
        self.around: dict[FileId, Path] = {}
        parents: dict[Path, Path] = {}
        for path in paths:
            number = _number(path)
            if number is not None:
                self.read[number] = path
                parents.setdefault(Path(os.path.realpath(path)).parent, path)
                # a link in a folder is read there too
                parents.setdefault(Path(os.path.realpath(Path(os.path.abspath(path)).parent)), path)
        # replaced as a whole, these would take along what nobody has named
        for path in (Path.cwd(), Path(os.path.expanduser("~")), cache_root()):
            parents.setdefault(Path(os.path.realpath(path)), path)
        for folder, path in parents.items():
            for each in (folder, *folder.parents):
                if (number := _number(each)) is not None:
                    self.around.setdefault(number, path)


def _number(path: Path) -> FileId | None:
    """Device and inode; None where nothing is there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _require_ours(place: _Place, inputs: _Inputs, *, overwrite: bool, keep_own: bool) -> None:
    """Raise ConfigError where the place holds what is read, or what is foreign unless that may be overwritten."""
    number = _number(place.real)
    if number in inputs.read:
        raise ConfigError(f"{place.path}: is read by this command and never written over; give another name.")
    if place.is_folder and number in inputs.around:
        raise ConfigError(
            f"{place.path}: holds {inputs.around[number]}, which must not be replaced; give a folder of its own."
        )
    foreign = _foreign(place, keep_own=keep_own)
    if not foreign:
        return
    for folder in place.real.parents:
        if (number := _number(folder)) in inputs.read:
            raise ConfigError(
                f"{place.path}: lies in {inputs.read[number]}, which this command reads, and listenwell did not write "
                "it; give another name."
            )
    found = f"holds {_shown(foreign)}" if place.is_folder else "is there already"
    found += "" if keep_own else ", which is not known as listenwell's own, unchanged work"
    if not overwrite:
        raise ConfigError(f"{place.path}: {found}; give another name, or --overwrite to replace it.")
    print(f"listenwell: {place.path}: {found}; --overwrite replaces it.", file=sys.stderr)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _foreign(place: _Place, *, keep_own: bool) -> list[str]:
    """The files at the place that are not as they were noted; with keep_own all of them."""
    if keep_own:
        return list(place.files())
    noted = _read_note(place)
    return [name for name, file in place.files().items() if name not in noted or not _is_as_noted(file, noted[name])]


def _is_as_noted(file: Path, sha256: str) -> bool:
    try:
        return not file.is_symlink() and file.is_file() and hash_file(file) == sha256
    except OSError:
        return False


def _note_path(place: _Place) -> Path:
    return cache_root() / NOTES / f"{hashlib.sha256(os.fsencode(place.real)).hexdigest()}.json"


def _read_note(place: _Place) -> Mapping[str, str]:
    """The hashes by name; none where there is no note, or it is broken or another place's."""
    try:
        note = json.loads(_note_path(place).read_text(encoding="utf-8"))
        return dict(note["files"]) if note["place"] == _text(place.real) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _note(place: _Place) -> None:
    try:
        hashes = {name: hash_file(file) for name, file in place.files().items() if not file.is_symlink()}
        write_json(_note_path(place), {"place": _text(place.real), "files": hashes})
    except (OSError, ListenwellError) as error:
        print(
            f"listenwell: {place.path} was written, but the cache could not note it ({error}); to replace it, the same "
            "command will need --overwrite.",
            file=sys.stderr,
        )


def _text(path: Path) -> str:
    """The path as JSON can hold it, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
