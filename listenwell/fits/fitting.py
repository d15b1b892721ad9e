"""Train adapters as a study needs them: reuse what was trained before, train the rest in stacks, read all back.

A fit is known by its identity (listenwell.fits.request); a finished identity is never trained again. How a stack
is trained and what is kept of a fit: listenwell.fits.stacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.fits.halving import DroppedFit
from listenwell.fits.ledger import open_ledger
from listenwell.fits.ray_executor import train_on_ray
from listenwell.fits.request import FAILED, HISTORY, FitRequest, require_adapter, spec_record
from listenwell.fits.stacks import DevSets, plan_stacks, races_of, remove_ended_stacks, train_stack
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.storage.load_or_make import read_checksummed
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.fit import FailedFit
from listenwell.train.fit_underway import Progress


@dataclass(frozen=True, slots=True)
class FinishedFit:
    """A trained adapter and its record (identity, seed, best epoch, steps, history)."""

    folder: Path
    adapter: Adapter
    record: dict[str, Any]


def fit_all(
    requests: Sequence[FitRequest],
    model: AudioLanguageModel,
    run: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[FinishedFit | FailedFit | DroppedFit]:
    """Return the fits of the requests in their order, trained now or read back.

    A fit that left the finite numbers is a FailedFit; it is not tried again. One that lost its race is a DroppedFit.
    Raises StoppedError when a signal asked to stop.
    """
    records = [spec_record(request, model.fingerprint) for request in requests]
    by_identity = {identity(**record): i for i, record in enumerate(records)}
    open_ledger(run, list(by_identity))
    races = races_of(by_identity, requests, run)
    remove_ended_stacks(by_identity, races, run)
    planned = list(plan_stacks(by_identity, requests, races, run))
    if planned and requests[0].config.executor.kind == "ray":
        train_on_ray(planned, requests, run)
    else:
        heard = DevSets(model, requests)
        for members in planned:
            train_stack(members, requests, heard, run, on_progress)
    return [
        races.result(identity(**record)) or _read_fit(run.fit(identity(**record)), model, request)
        for record, request in zip(records, requests, strict=True)
    ]


def _read_fit(folder: Path, model: AudioLanguageModel, request: FitRequest) -> FinishedFit | FailedFit:
    if (folder / FAILED).is_file():
        return FailedFit(request.name, read_checksummed(folder / FAILED)["reason"])
    require_adapter(folder)
    adapter, _ = read_adapter(folder / "adapter", model)
    return FinishedFit(folder, adapter, {"name": request.name, **read_checksummed(folder / HISTORY)})
