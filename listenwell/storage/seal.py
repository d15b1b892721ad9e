"""The seal of a test: a log of who committed to which thresholds, and who looked at the test clips, when.

One JSON object per line, each holding the hash of the line before it (a hash chain, as in Haber & Stornetta 1991), so
that no line can be changed, taken out or put between without breaking every later hash. The head of the chain is
repeated in results.json: cutting lines off the end shows too. Whoever may write the folder can of course make a new
chain; against that, the head in a published results.json stands.

    commit   these thresholds, by the hash of their values and of the dev scores that chose them, are the ones
    look     this test set is scored, or its scores are read, with the thresholds of the last commit

A look needs a commit before it (SealError). Committing other thresholds after a look is possible, and marked: the
verdict is then "reopened", because a choice made after a look can have been made from it.
"""

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from listenwell.errors import SealError
from listenwell.storage.atomic_files import companion, hold_lock, write_text
from listenwell.storage.load_or_make import hash_content

COMMIT, LOOK = "commit", "look"
Verdict = Literal["sealed", "reopened", "unsealed"]
FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class SealStatus:
    """What the log shows. head: hash of the last line ("" without one); reason: the verdict in one sentence."""

    verdict: Verdict
    reason: str
    head: str


def commit(path: Path, thresholds: Mapping[str, str], made_from: str) -> None:
    """Commit to thresholds (method -> hash); made_from: the identity of the fit. The same again adds nothing.

    Raises SealError when the chain is broken.
    """
    content = {"thresholds": dict(sorted(thresholds.items())), "made_from": made_from}
    last = _last_commit(path)
    if last is None or {key: last[key] for key in content} != content:
        append_entry(path, COMMIT, content)


def look(path: Path, test_set: str, test_sha256: str, thresholds: Mapping[str, str]) -> None:
    """Note a look at a test set. Raises SealError unless exactly these thresholds are committed."""
    last = _last_commit(path)
    if last is None or last["thresholds"] != dict(thresholds):
        state = "no threshold is" if last is None else "other thresholds are"
        raise SealError(
            f"{path}: {state} committed, so test set '{test_set}' stays closed; choose the thresholds on dev and "
            "commit them first (a study does)."
        )
    append_entry(path, LOOK, {"test_set": test_set, "test_sha256": test_sha256, "commit": last["hash"]})


def append_entry(path: Path, event: str, content: Mapping[str, Any]) -> None:
    """Add one line to the log at `path`, atomically and one writer at a time. Raises SealError for a broken chain."""
    with hold_lock(companion(path, ".lock"), f"another process writes {path}"):
        entries = read_chain(path)
        entry = {
            "number": len(entries) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "who": _user(),
            "event": event,
            **content,
            "previous": entries[-1]["hash"] if entries else FIRST,
        }
        entries.append(entry | {"hash": hash_content(entry)})
        write_text(path, "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in entries))


def read_chain(path: Path) -> list[dict[str, Any]]:
    """Return the entries of the log at `path`, none when there is no file.

    Raises SealError naming the first line that does not fit.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(
            f"{path}: the seal's log cannot be read ({error}), so what this run shows on its test sets does not count "
            "as sealed. Start a new run folder."
        ) from error
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry: dict[str, Any] = json.loads(line)
            content = {key: value for key, value in entry.items() if key != "hash"}
            previous = entries[-1]["hash"] if entries else FIRST
            is_whole = (entry["number"], entry["previous"], entry["hash"]) == (number, previous, hash_content(content))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            is_whole = False
        if not is_whole:
            raise SealError(
                f"{path} line {number}: the chain of the seal is broken, a line was changed, lost or put in; what this "
                "run shows on its test sets does not count as sealed. Start a new run folder."
            )
        entries.append(entry)
    return entries


def judge_seal(path: Path, expected_head: str, test_sets: Sequence[str]) -> SealStatus:
    """Say whether the log at `path` bears out that the thresholds stood before every look at `test_sets`.

    expected_head: the head that results.json repeats.
    """
    try:
        entries = read_chain(path)
    except SealError as error:
        return SealStatus("unsealed", str(error), "")
    looks = [entry for entry in entries if entry["event"] == LOOK]
    late = [entry for entry in entries if looks and entry["event"] == COMMIT and entry["number"] > looks[0]["number"]]
    unseen = sorted(set(test_sets) - {entry["test_set"] for entry in looks})
    verdict: Verdict = "unsealed"
    if not entries or unseen:
        missing = f"no look at {', '.join(unseen)} is logged" if entries else f"there is no log at {path}"
        reason = f"{missing}, so nothing shows when the thresholds were chosen."
    elif expected_head not in {entry["hash"] for entry in entries}:
        reason = "the log ends before the head that the results repeat: lines were cut off, or the log was replaced."
    elif late:
        verdict = "reopened"
        reason = (
            f"thresholds were committed again after the test had been opened (entry {late[0]['number']}, "
            f"{late[0]['time']}): they can have been chosen from what the test showed."
        )
    else:
        verdict = "sealed"
        reason = (
            f"every threshold was committed before the first look at the test ({looks[0]['time']}); "
            f"{len(looks)} look{'s' * (len(looks) != 1)}, all with these thresholds."
        )
    return SealStatus(verdict, reason, entries[-1]["hash"] if entries else "")


def _last_commit(path: Path) -> dict[str, Any] | None:
    return next((entry for entry in reversed(read_chain(path)) if entry["event"] == COMMIT), None)


def _user() -> str:
    """The name of the user, or "unknown" where the system has none (a container without accounts)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
