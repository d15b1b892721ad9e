"""The ledger of fits: a folder of finished fits by identity, which several runs may share, even at the same time.

An identity is a hash of all that decides a fit, so a fit found is the fit wanted. Two studies that want the same one
at once are kept apart by a lock per fit: the second waits, then finds it finished. used_fits.json of a run says which
fits its config asked for, so that the others can be cleaned away.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from filelock import FileLock, Timeout

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import disk_faults_named, make_folder, write_json
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity, read_json

LEDGER_VERSION = 1


def open_ledger(run: RunFolder, wanted: Sequence[str]) -> None:
    """Check the ledger's version, marking a new one, and note which fits the run's config asks for.

    Raises ListenwellError for a ledger of another version.
    """
    if not run.ledger_version.is_file():
        write_checksummed(run.ledger_version, {"version": LEDGER_VERSION})
    content = read_checksummed(run.ledger_version)
    found = content["version"] if "version" in content else None
    if found != LEDGER_VERSION:
        raise ListenwellError(
            f"{run.ledger_version}: the ledger is of version {found}, this listenwell reads version {LEDGER_VERSION}; "
            "name another folder as ledger or output, or use the listenwell that made it."
        )
    if run.config.is_file():
        asked = {*fits_asked_for(run), *(each[:16] for each in wanted)}
        write_json(run.used_fits, _read_used(run) | {config_key(run): sorted(asked)})


def fits_asked_for(run: RunFolder) -> list[str]:
    """The fits that the run's present config asked for so far. Raises ListenwellError when the note is broken."""
    used, key = _read_used(run), config_key(run)
    return used[key] if key in used else []


def _read_used(run: RunFolder) -> dict[str, list[str]]:
    used = read_json(run.used_fits) if run.used_fits.is_file() else {}
    for names in used.values():
        if not isinstance(names, list) or not all(map(_names_a_fit, names)):
            raise ListenwellError(f"{run.used_fits}: holds no lists of fits; delete it and run the study again.")
    return used


def _names_a_fit(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalnum()


def config_key(run: RunFolder) -> str:
    """Under which name the run's present config notes its fits."""
    return identity(config=run.config.read_text(encoding="utf-8", errors="replace"))[:16]


@contextmanager
def hold_fits(run: RunFolder, identities: Sequence[str]) -> Iterator[None]:
    """Hold the locks of these fits, waiting while another study trains one of them."""
    with ExitStack() as held:
        # in one order for all, so that no two studies wait for each other
        for each in sorted(identities):
            held.enter_context(_lock_fit(run, each))
        yield


@contextmanager
def _lock_fit(run: RunFolder, fit_identity: str) -> Iterator[None]:
    path = run.fit_lock(fit_identity)
    make_folder(path.parent)
    lock = FileLock(path)
    try:
        with disk_faults_named(path):
            lock.acquire(timeout=0)
    except Timeout:
        print(f"listenwell: another study trains fit {fit_identity[:16]}; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
