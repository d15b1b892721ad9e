"""The ledger of fits: a folder of fits by identity, which several runs may share, even at the same time.

An identity is a hash of all that decides a fit, so a fit found is the fit wanted. Two studies that want the same one
at once are kept apart by a lock per fit: the second waits, then finds it finished. used_fits.json of a run says which
fits its present config requested.

A fit's folder holds adapter/ (PEFT format), history.json, plans.jsonl (one line per augmented clip), metrics.jsonl (one
line per step and epoch), and spec.json, which is written last, marks the fit as finished and holds the hashes of the
others; failed.json in its place where the fit was stopped for good; dropped-<bracket>.json where it lost one. A study
needs the adapter and the history; a log is checked by those who read it, so that a bit that flipped in one costs no
training.

Successive halving: the worse trials of a bracket end at rungs (Jamieson & Talwalkar 2016, arXiv:1502.07943). At every
rung, a number of epochs, those still in it are ranked by the lowest dev loss so far; only a share goes on. Every trial
keeps the schedule of its full length, so those that end are trained like the others up to there. Who is dropped follows
from the trials' histories alone: a bracket that was killed drops the same trials when it goes on, and one whose trials
the ledger knows already drops them on paper. A dropped fit is no finished one: whoever wants it whole trains it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from listenwell.errors import ListenwellError
from listenwell.fits.request import FAILED, HISTORY, SPEC, Planned, PlannedFit
from listenwell.storage.atomic_files import hold_lock, write_json
from listenwell.storage.load_or_make import read_checksummed, require_files, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity, read_json
from listenwell.train.fit import Standing
from listenwell.train.fit_log import LOGS, METRICS

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


@dataclass(frozen=True, slots=True)
class DroppedFit:
    """A trial that was dropped at a rung, and one record per epoch it was trained."""

    name: str
    rung: int
    history: Sequence[Mapping[str, Any]]

    @property
    def best(self) -> Mapping[str, Any]:
        """The record of its best epoch up to the rung."""
        return min(self.history[: self.rung], key=lambda record: float(record["dev_loss"]))

    @property
    def reason(self) -> str:
        """Why there is no adapter."""
        return f"'{self.name}' was among the worse ones after epoch {self.rung}."


def find_dropped(fit: PlannedFit, planned: Planned) -> DroppedFit | None:
    """The fit as one that was dropped, None when it was not. Every trial of its bracket must be over."""
    rungs = rungs_of_dropped(fit, planned, {})
    return DroppedFit(fit.request.name, rungs[fit.identity], _past(fit).history) if fit.identity in rungs else None


def rungs_of_dropped(fit: PlannedFit, planned: Planned, standings: Mapping[str, Standing]) -> dict[str, int]:
    """Identity -> rung of all who are dropped by now in the bracket of this fit.

    standings: of the fits in training, by name; the ledger has the rest.
    """
    bracket = fit.request.bracket
    if bracket is None:
        return {}
    rivals = [rival for rival in planned.values() if rival.bracket == fit.bracket]
    known = {r.identity: standings[r.request.name] if r.request.name in standings else _past(r) for r in rivals}
    return dropped_at(known, bracket.rungs, bracket.keep_share)


def dropped_at(standings: Mapping[str, Standing], rungs: Sequence[int], keep_share: float) -> dict[str, int]:
    """Return trial -> rung of every trial that is to end, as far as the standings decide it.

    A rung is decided once every trial still in the bracket has reached it or ended before. A failed trial is the worst;
    one with no epochs left there is ranked but not dropped; of equal ones the first goes on; at least one stays.
    """
    competing = list(standings)
    dropped: dict[str, int] = {}
    for rung in rungs:
        if any(len(standings[name].history) < rung and not standings[name].has_ended for name in competing):
            break
        ranked = sorted(competing, key=lambda name: _loss_at(standings[name], rung))
        losers = ranked[max(1, ceil(keep_share * len(ranked))) :]
        competing = [name for name in competing if name not in losers]
        complete = [name for name in losers if standings[name].has_ended and len(standings[name].history) <= rung]
        dropped |= {name: rung for name in losers if name not in complete}
    return dropped


def _loss_at(standing: Standing, rung: int) -> float:
    has_failed_before = standing.has_failed and len(standing.history) < rung
    losses = [float(record["dev_loss"]) for record in standing.history[:rung]]
    return float("inf") if has_failed_before else min(losses)


def _past(fit: PlannedFit) -> Standing:
    """How far the fit came, from the ledger. A drop in this bracket counts before a whole fit that came later."""
    if fit.dropped.is_file():
        return Standing(tuple(read_checksummed(fit.dropped)["history"]), has_ended=False, has_failed=False)
    if (fit.folder / SPEC).is_file():
        return Standing(tuple(read_checksummed(fit.folder / HISTORY)["history"]), has_ended=True, has_failed=False)
    require_log(fit.folder, METRICS)
    lines = (fit.folder / METRICS).read_text(encoding="utf-8").splitlines()
    epochs = tuple(record for record in map(json.loads, lines) if "dev_loss" in record)
    return Standing(epochs, has_ended=True, has_failed=True)
