"""The order of a study, kept by its seal: thresholds are committed, then the test sets are opened.

Two logs: the run's own (seal.jsonl), which decides the verdict, and one per test set in the cache, which remembers the
run folders that opened the same clips on this machine: the tenth study on one test set has seen it nine times.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from listenwell.data.clip import Clip
from listenwell.errors import SealError
from listenwell.evaluate.calibration import Threshold
from listenwell.splits.divide import DEV, POOL, TRAIN
from listenwell.storage.load_or_make import cache_faults_named, cache_root
from listenwell.storage.run_folder import RunFolder, identity, read_kept_results
from listenwell.storage.seal import LOOK, append_entry, commit, judge_seal, look, read_chain

OPENED = "opened"


def commit_thresholds(run: RunFolder, thresholds: Mapping[str, Threshold], fit_identity: str) -> None:
    """Write the thresholds of every method into the run's seal; from here on they may not change unmarked."""
    commit(run.seal, _hashes(thresholds), fit_identity)


def open_test_set(run: RunFolder, name: str, clips: Sequence[Clip], thresholds: Mapping[str, Threshold]) -> None:
    """Note a look at the test set `name`. Raises SealError unless exactly these thresholds are committed."""
    content = content_sha256(clips)
    look(run.seal, name, content, _hashes(thresholds))
    note_opening(name, content, run.root)


def note_opening(name: str, content: str, opened_by: Path) -> None:
    """Remember on this machine that the run folder `opened_by` opened the clips with this hash."""
    ledger, folder = _ledger(content), str(opened_by.resolve())
    if all(entry["run"] != folder for entry in read_chain(ledger)):
        with cache_faults_named(ledger):
            append_entry(ledger, OPENED, {"test_set": name, "run": folder})


def is_test_split(split: str) -> bool:
    """True for a split of the manifest that only tests."""
    return split not in ("", TRAIN, DEV, POOL)


def describe_seal(run: RunFolder, test_sets: Mapping[str, str], head: str | None = None) -> dict[str, Any]:
    """The seal for results.json: verdict, reason, head, entries, and earlier openings of the same test sets.

    test_sets: name -> content_sha256. head: the head that results.json repeats; None takes the log's own.
    """
    entries: list[dict[str, Any]] = []
    with suppress(SealError):
        entries = read_chain(run.seal)
    own_head = entries[-1]["hash"] if entries else ""
    looks = {entry["test_sha256"]: entry["time"] for entry in reversed(entries) if entry["event"] == LOOK}
    status = judge_seal(run.seal, own_head if head is None else head, list(test_sets))
    return {
        **asdict(status),
        "entries": entries,
        "test_sets": dict(test_sets),
        "earlier": [
            earlier
            for name, content in test_sets.items()
            for earlier in _earlier(name, content, run.root, looks[content] if content in looks else "")
        ],
    }


def read_seal(run: RunFolder) -> dict[str, Any]:
    """The seal of a finished study, judged again against the head that its results.json repeats."""
    noted = read_kept_results(run)["seal"]
    return describe_seal(run, noted["test_sets"], noted["head"])


def content_sha256(clips: Sequence[Clip]) -> str:
    """What stands for a test set: the hash of its clips' ids, labels and samples, in any order.

    Not their groups or stretches: a test set that was looked at stays the same one when these are corrected.
    """
    return identity(clips=sorted([clip.clip_id, clip.label, clip.identity[-1]] for clip in clips))


def _earlier(name: str, content: str, root: Path, first_look: str) -> list[dict[str, Any]]:
    """The openings of this test set by other run folders before this one's; their names only, paths are private.

    first_look: when this run first looked, "" where its seal holds no look. A run made elsewhere, or moved since, has
    no entry of its own here: its time tells what came before it.
    """
    earlier = []
    for entry in read_chain(_ledger(content)):
        if entry["run"] == str(root.resolve()) or (first_look and entry["time"] > first_look):
            break
        earlier.append({"test_set": name, "time": entry["time"], "run": Path(entry["run"]).name})
    return earlier


def _ledger(content: str) -> Path:
    return cache_root() / "opened" / f"{content[:16]}.jsonl"


def _hashes(thresholds: Mapping[str, Threshold]) -> dict[str, str]:
    return {
        method: hashlib.sha256(json.dumps(asdict(threshold), sort_keys=True).encode()).hexdigest()
        for method, threshold in sorted(thresholds.items())
    }
