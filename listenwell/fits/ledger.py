"""The ledger of fits: a folder of fits by identity, which several runs may share, even at the same time.

An identity is a hash of all that decides a fit, so a fit found is the fit wanted. Two studies that want the same one
at once are kept apart by a lock per fit: the second waits, then finds it finished. used_fits.json of a run says which
fits its present config requested.

A fit's folder holds adapter/ (PEFT format), history.json, plans.jsonl (one line per augmented clip), metrics.jsonl (one
line per step and epoch), and spec.json, which is written last, marks the fit as finished and holds the hashes of the
others; failed.json in its place where the fit was stopped for good; dropped-<bracket>.json where it lost one. A study
needs the adapter and the history; a log is checked by those who read it, so that a bit that flipped in one costs no
training.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import hold_lock, write_json
from listenwell.storage.load_or_make import read_checksummed, require_files, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity, read_json
from listenwell.train.fit_log import LOGS

SPEC, FAILED, HISTORY = "spec.json", "failed.json", "history.json"
LEDGER_VERSION = 1


def require_adapter(folder: Path) -> None:
    """Raise CheckpointError when a finished fit's adapter or history was changed."""
    read_checksummed(folder / SPEC)
    require_files(folder / SPEC, leaving_out=LOGS)


def require_log(folder: Path, name: str) -> None:
    """Raise CheckpointError when a log was changed since its fit ended; of one under training nothing is known."""
    for note in (folder / SPEC, folder / FAILED):
        if note.is_file():
            read_checksummed(note)
            require_files(note, [name])


def open_ledger(run: RunFolder, wanted: Sequence[str]) -> None:
    """Check the ledger's version, marking a new one, and note which fits the run's config requests.

    Raises ListenwellError for a ledger of another version.
    """
    if not run.ledger_version.is_file():
        write_checksummed(run.ledger_version, {"version": LEDGER_VERSION})
    version = read_checksummed(run.ledger_version).get("version")
    if version != LEDGER_VERSION:
        raise ListenwellError(
            f"{run.ledger_version}: the ledger is of version {version}, this listenwell reads version {LEDGER_VERSION};"
            " name another folder as ledger or output, or use the listenwell that made it."
        )
    if run.config.is_file():
        requested = sorted({*requested_fits(run), *(fit[:16] for fit in wanted)})
        write_json(run.used_fits, {_config_key(run): requested})


def requested_fits(run: RunFolder) -> list[str]:
    """The fits that the run's present config requested so far. Raises ListenwellError when the note is broken."""
    used, key = read_json(run.used_fits) if run.used_fits.is_file() else {}, _config_key(run)
    return list(used[key]) if key in used else []


def _config_key(run: RunFolder) -> str:
    return identity(config=run.config.read_text(encoding="utf-8", errors="replace"))[:16]


@contextmanager
def hold_fits(run: RunFolder, identities: Sequence[str]) -> Iterator[None]:
    """Hold the locks of these fits, waiting while another study trains one of them."""
    with ExitStack() as held:
        # in one order for all, so that no two studies wait for each other
        for fit in sorted(identities):
            held.enter_context(hold_lock(run.fit_lock(fit), f"another study trains fit {fit[:16]}"))
        yield
