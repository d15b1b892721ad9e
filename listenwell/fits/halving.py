"""Successive halving: the worse trials of a race end at rungs (Jamieson & Talwalkar 2016, arXiv:1502.07943).

Trials that train as one stack run a race. At every rung, a number of epochs, those still in it are ranked by the lowest
dev loss so far; only a share goes on, the others leave the stack. Every trial keeps the schedule of its full length, so
those that end are trained like the others up to there.

Who is dropped follows from the trials' histories alone: a race that was killed drops the same trials when it goes on,
and one whose trials the ledger knows already drops them on paper. A dropped fit is no finished one: what it came to
lies in fits/<identity>/dropped-<race>.json, and whoever wants the whole fit trains it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from listenwell.fits.request import FAILED, HISTORY, SPEC, Race, require_log
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import identity
from listenwell.train.fit import Standing
from listenwell.train.fit_log import METRICS


@dataclass(frozen=True, slots=True)
class DroppedFit:
    """A trial that lost its race at a rung, and one record per epoch it was trained."""

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


def dropped_at(standings: Mapping[str, Standing], rungs: Sequence[int], keep_share: float) -> dict[str, int]:
    """Return trial -> rung of every trial that is to end, as far as the standings decide it.

    A rung is decided once every trial still in the race has reached it or ended before. A failed trial is the worst;
    one with no epochs left there is ranked but not dropped; of equal ones the first goes on; at least one stays.
    """
    racing = list(standings)
    dropped: dict[str, int] = {}
    for rung in rungs:
        if any(len(standings[name].history) < rung and not standings[name].has_ended for name in racing):
            break
        ranked = sorted(racing, key=lambda name: _loss_at(standings[name], rung))
        losers = ranked[max(1, ceil(keep_share * len(ranked))) :]
        racing = [name for name in racing if name not in losers]
        dropped |= {name: rung for name in losers if not _is_complete(standings[name], rung)}
    return dropped


def _loss_at(standing: Standing, rung: int) -> float:
    has_failed_before = standing.has_failed and len(standing.history) < rung
    losses = [float(record["dev_loss"]) for record in standing.history[:rung]]
    return float("inf") if has_failed_before else min(losses)


def _is_complete(standing: Standing, rung: int) -> bool:
    return standing.has_ended and len(standing.history) <= rung


@dataclass(frozen=True, slots=True)
class Runner:
    """A fit that may be in a race: its identity, its name, and the race."""

    identity: str
    name: str
    race: Race | None


class Races:
    """The races among the fits of one call, and what the ledger knows of them. folder_of: identity -> folder."""

    def __init__(self, runners: Sequence[Runner], folder_of: Callable[[str], Path]) -> None:
        self.folder_of = folder_of
        self.runners = {runner.identity: runner for runner in runners}
        rivals: dict[Race, list[str]] = {}
        for runner in self.runners.values():
            if runner.race is not None:
                rivals.setdefault(runner.race, []).append(runner.identity)
        self.rivals = {each: members for members in rivals.values() for each in members}

    def key(self, fit: str) -> str:
        """The name of the fit's race in files, which its rules and all rivals decide; empty without a race."""
        race = self.runners[fit].race
        rules = {key: value for key, value in asdict(race).items() if key != "name"} if race is not None else {}
        return identity(**rules, rivals=self.rivals[fit])[:16] if race is not None else ""

    def is_over(self, fit: str) -> bool:
        """True when nothing of the fit is left to train: finished, failed for good, or dropped in this very race."""
        folder = self.folder_of(fit)
        ends = [folder / SPEC, folder / FAILED, *([self._note(fit)] if self.key(fit) else [])]
        return any(path.is_file() for path in ends)

    def note_dropped(self, fit: str, history: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> None:
        """Write down that the fit was dropped in its race."""
        write_checksummed(self._note(fit), {"history": list(history), "spec": dict(spec)})

    def keep_going(self, name: str, standings: Mapping[str, Standing]) -> bool:
        """What a stack asks (Watch.keep_going); rivals outside the stack are known from the ledger."""
        return not any(self.runners[fit].name == name for fit in self._dropped(name, standings))

    def result(self, fit: str) -> DroppedFit | None:
        """The fit as one that lost, None when it did not. Everything in its race must be over."""
        runner = self.runners[fit]
        if runner.race is None:
            return None
        lost = self._dropped(runner.name, {})
        return DroppedFit(runner.name, lost[fit], self._known(fit).history) if fit in lost else None

    def _dropped(self, name: str, standings: Mapping[str, Standing]) -> dict[str, int]:
        """Identity -> rung of all who lost the race that the fit of this name runs in."""
        fit = next(each.identity for each in self.runners.values() if each.name == name)
        race = self.runners[fit].race
        if race is None:
            return {}
        names = {rival: self.runners[rival].name for rival in self.rivals[fit]}
        known = {rival: standings[own] if own in standings else self._known(rival) for rival, own in names.items()}
        return dropped_at(known, race.rungs, race.keep_share)

    def _known(self, fit: str) -> Standing:
        """How far the fit came, from the ledger. A drop in this race counts before a whole fit that came later."""
        folder = self.folder_of(fit)
        if self._note(fit).is_file():
            return Standing(tuple(read_checksummed(self._note(fit))["history"]), has_ended=False, has_failed=False)
        if (folder / SPEC).is_file():
            return Standing(tuple(read_checksummed(folder / HISTORY)["history"]), has_ended=True, has_failed=False)
        require_log(folder, METRICS)
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        epochs = tuple(record for record in map(json.loads, lines) if "dev_loss" in record)
        return Standing(epochs, has_ended=True, has_failed=True)

    def _note(self, fit: str) -> Path:
        return self.folder_of(fit) / f"dropped-{self.key(fit)}.json"
