"""Successive halving: the worse trials of a bracket end at rungs (Jamieson & Talwalkar 2016, arXiv:1502.07943).

Trials that train as one stack form a bracket. At every rung, a number of epochs, those still in it are ranked by the
lowest dev loss so far; only a share goes on, the others leave the stack. Every trial keeps the schedule of its full
length, so those that end are trained like the others up to there.

Who is dropped follows from the trials' histories alone: a bracket that was killed drops the same trials when it goes
on, and one whose trials the ledger knows already drops them on paper. A dropped fit is no finished one: its history
lies in fits/<identity>/dropped-<bracket>.json, and whoever wants the whole fit trains it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from listenwell.fits.ledger import HISTORY, SPEC, require_log
from listenwell.fits.request import Planned, PlannedFit
from listenwell.storage.load_or_make import read_checksummed
from listenwell.train.fit import Standing
from listenwell.train.fit_log import METRICS


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
