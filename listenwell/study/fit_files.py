"""What a fit leaves in its folder, and whether it is still as it was written.

adapter/ (PEFT format), history.json, plans.jsonl (one line per clip heard), metrics.jsonl (one line per step and
epoch), and spec.json, which is written last, marks the fit as finished and vouches for the others; failed.json in its
place where the fit was stopped for good; dropped-<race>.json where it lost one (listenwell.study.halving).

A study needs the adapter and the history; a log is checked by those who read it, so that a bit that flipped in one
costs no training.
"""

from pathlib import Path

from listenwell.train.fit_log import LOGS
from listenwell.vouched_files import read_vouched, require_files

SPEC, FAILED, HISTORY = "spec.json", "failed.json", "history.json"


def require_adapter(folder: Path) -> None:
    """Raise CheckpointError when a finished fit's adapter or history was changed."""
    read_vouched(folder / SPEC)
    require_files(folder / SPEC, leaving_out=LOGS)


def require_log(folder: Path, name: str) -> None:
    """Raise CheckpointError when a log was changed since its fit ended; of one under training nothing is known."""
    for note in (folder / SPEC, folder / FAILED):
        if note.is_file():
            read_vouched(note)
            require_files(note, [name])
