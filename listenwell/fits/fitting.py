"""Train adapters as a study needs them: reuse what was trained before, train the rest in stacks, read all back.

A fit is known by its identity (listenwell.fits.request); a finished identity is never trained again. How a stack is
trained and what is kept of a fit: listenwell.fits.stacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.ledger import DroppedFit, find_dropped, open_ledger, require_adapter
from listenwell.fits.ray_executor import train_on_ray
from listenwell.fits.request import FAILED, HISTORY, Arm, FitRequest, PlannedFit, plan_fits
from listenwell.fits.stacks import DevSets, plan_stacks, train_stack
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.trained import Search
from listenwell.storage.load_or_make import read_checksummed
from listenwell.storage.run_folder import RunFolder
from listenwell.train.fit import FailedFit
from listenwell.train.fit_underway import Progress


@dataclass(frozen=True, slots=True)
class FinishedFit:
    """A trained adapter and its record (name, identity, seed, best epoch, steps, history)."""

    folder: Path
    adapter: Adapter
    record: dict[str, Any]

    @property
    def best(self) -> dict[str, Any]:
        """The record of its best epoch."""
        best: dict[str, Any] = self.record["history"][self.record["best_epoch"] - 1]
        return best


Outcome = FinishedFit | FailedFit | DroppedFit


@dataclass(frozen=True, slots=True)
class TrainedArm:
    """An arm with one seed, its fit, and the name of its method in tables and files."""

    arm: Arm
    fit: FinishedFit
    method: str


@dataclass(frozen=True, slots=True)
class Trained:
    """What a study trained: every arm with every seed, what failed, what the search found."""

    model: AudioLanguageModel
    arms: Sequence[TrainedArm]
    failed: Sequence[Mapping[str, str]]
    searched: Search | None

    @property
    def delivered(self) -> TrainedArm:
        """The fit that the study delivers."""
        return next(arm for arm in self.arms if arm.method == FINE_TUNED)

    @property
    def identities(self) -> dict[str, str]:
        """Method -> identity of its fit."""
        return {arm.method: arm.fit.record["identity"] for arm in self.arms}


def median_seed(arms: Sequence[TrainedArm]) -> TrainedArm:
    """The fit with the median lowest dev loss; of an even number, the better of the middle two."""
    ranked = sorted(arms, key=lambda arm: (arm.fit.best["dev_loss"], arm.arm.seed))
    return ranked[(len(ranked) - 1) // 2]


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains fits over one base model into the ledger of one run."""

    model: AudioLanguageModel
    run: RunFolder
    on_progress: OnProgress = ignore_progress

    def fit_all(self, requests: Sequence[FitRequest]) -> list[Outcome]:
        """Return the fits of the requests in their order, trained now or read back.

        A fit that left the finite numbers is a FailedFit; it is not tried again. One that lost its bracket is a
        DroppedFit. Raises StoppedError when a signal asked to stop.
        """
        fits = plan_fits(requests, self.model.fingerprint, self.run)
        planned = {fit.identity: fit for fit in fits}
        open_ledger(self.run, list(planned))
        stacks = plan_stacks(planned, self.run)
        if stacks and requests[0].config.executor.kind == "ray":
            train_on_ray(stacks, requests, self.run)
        else:
            dev_sets = DevSets(self.model, requests)
            for stack in stacks:
                train_stack(stack, dev_sets, self._on_step)
        return [find_dropped(fit, planned) or _read_fit(fit, self.model) for fit in fits]

    def _on_step(self, progress: Progress) -> None:
        says, last = f"loss {progress.loss:.3f}", progress.last_epoch
        says += f", dev loss {last['dev_loss']:.3f} after epoch {last['epoch']}" if last else ""
        self.on_progress(f"training {progress.name}: {says}", progress.step, progress.n_steps)


def _read_fit(fit: PlannedFit, model: AudioLanguageModel) -> FinishedFit | FailedFit:
    if (fit.folder / FAILED).is_file():
        return FailedFit(fit.request.name, read_checksummed(fit.folder / FAILED)["reason"])
    require_adapter(fit.folder)
    adapter, _ = read_adapter(fit.folder / "adapter", model)
    return FinishedFit(fit.folder, adapter, {"name": fit.request.name, **read_checksummed(fit.folder / HISTORY)})
