"""The metrics of a run's fits as TensorBoard event files, for those who watch training there.

metrics.jsonl stays the record; this is a copy of it, one folder per fit under its identity, written by TensorBoard's
own writer (the optional extra `tracking`). Steps count on the axis of optimiser steps, epochs on that of epochs.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from listenwell.errors import ListenwellError
from listenwell.fits.ledger import requested_fits, require_log
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.destination import destinations
from listenwell.tasks.opened_run import open_run
from listenwell.train.fit_log import METRICS

COUNTERS = ("step", "epoch")


def export_tensorboard(run_root: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write one folder of event files per fit of the run into `out` and return them; an older export is replaced.

    Fits under training are copied as far as they are. Raises ListenwellError when there is nothing to copy, or
    TensorBoard is not installed, or a finished fit's metrics were changed; ConfigError where such a folder holds what
    listenwell did not write, unless `overwrite`.
    """
    fits = [fit for fit in _fits_of(run_root) if (fit / METRICS).is_file()]
    if not fits:
        raise ListenwellError(
            f"{run_root}: none of its fits has written a {METRICS} yet; give the folder of a run that trains or has "
            "trained."
        )
    folders = [out / fit.name for fit in fits]
    with destinations(folders=folders, inputs=[run_root, *fits], overwrite=overwrite):
        for fit, folder in zip(fits, folders, strict=True):
            require_log(fit, METRICS)
            with atomic_folder(folder) as temporary:
                _write_events(temporary, fit / METRICS)
    return folders


def _fits_of(run_root: Path) -> list[Path]:
    """The folders of the fits that the run's config asked for."""
    run, _ = open_run(run_root)
    return [run.fit(each) for each in requested_fits(run)]


def _write_events(folder: Path, metrics: Path) -> None:
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ListenwellError(
            "the Python package tensorboard is not installed; install it with: pip install 'listenwell[tracking]'"
        ) from error
    # one time for all lines: they hold none, and the same metrics give the same events
    written = metrics.stat().st_mtime
    writer = Writer(str(folder))
    for record in _records(metrics):
        axis = "epoch" if "epoch" in record else "step"
        for name, value in record.items():
            if name not in COUNTERS:
                writer.add_scalar(f"{axis}/{name}", value, record[axis], wall_time=written)
    writer.close()


def _records(metrics: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines; the last one of a fit under training may be half-written and is passed over."""
    lines = metrics.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise ListenwellError(f"{metrics} line {number}: is no JSON ({error}); train the fit again.") from error
