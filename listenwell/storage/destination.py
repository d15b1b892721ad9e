"""What stands where a user says that something is to be written is replaced only where they say `overwrite`.

A place that holds something is refused before the work starts; `overwrite` says on standard error what goes. What the
work reads is refused always. Empty files and folders hold nothing. Knows nothing of what the files are.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listenwell.errors import ConfigError
from listenwell.storage.atomic_files import NO_FILE, describe_fault, is_special
from listenwell.storage.load_or_make import cache_root

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

    def lost(self) -> list[str]:
        """The names, below this place, of what is lost when it is replaced."""
        if not self.is_folder:
            return ["."] if os.path.isfile(self.real) and os.path.getsize(self.real) else []
        unreadable: list[OSError] = []
        walked = list(os.walk(self.real, onerror=unreadable.append)) if os.path.isdir(self.real) else []
        inner = [Path(folder, name) for folder, folders, names in walked for name in (*names, *folders)]
        lost = [path for path in inner if path.is_symlink() or not path.is_dir()]
        # what cannot be looked into may hold anything
        lost += [Path(os.fsdecode(error.filename)) for error in unreadable]
        return sorted(os.fspath(path.relative_to(self.real)) for path in lost)


@contextmanager
def destinations(
    files: Iterable[Path | None] = (),
    folders: Iterable[Path | None] = (),
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
) -> Iterator[Callable[[], None]]:
    """Check these places before the work of the block.

    files, folders: None is a place not asked for, a folder is replaced as a whole. inputs: files and folders that the
    work reads, looked at only where something stands at a place. Yields what removes those of the files that were there
    and were not written again: beside the new ones they would be wrong. Raises ConfigError.
    """
    named = [(path, False) for path in files if path is not None]
    named += [(path, True) for path in folders if path is not None]
    places = [_Place(path, Path(os.path.realpath(path)), is_folder, _identify(path)) for path, is_folder in named]
    _require_possible(places)
    taken = [place for place in places if place.lost() or (place.is_folder and os.path.isdir(place.real))]
    if taken:
        _require_replaceable(taken, inputs, overwrite=overwrite)

    def remove_rest() -> None:
        for place in taken:
            if not place.is_folder and _identify(place.real) == place.before:
                place.real.unlink(missing_ok=True)

    yield remove_rest


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


def _require_replaceable(taken: Sequence[_Place], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise ConfigError for a place that the work reads or that holds what it reads, and where it may not be lost."""
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
        if names := place.lost():
            _require_may_go(place, names, read, overwrite=overwrite)


def _require_may_go(place: _Place, names: Sequence[str], read: Mapping[Identity, Path], *, overwrite: bool) -> None:
    """Raise ConfigError where the files of these names lie in what is read, or may not be overwritten."""
    for number in map(_identify, place.real.parents):
        if number in read:
            raise ConfigError(f"{place.path}: lies in {read[number]}, which this command reads; give another name.")
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    state = f"holds {', '.join(names[:SHOWN])}{more}" if place.is_folder else "is there already"
    if not overwrite:
        raise ConfigError(f"{place.path}: {state}; give another name, or --overwrite to replace it.")
    print(f"listenwell: {place.path}: {state}; --overwrite replaces it.", file=sys.stderr)


def _identify(path: Path) -> Identity:
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
