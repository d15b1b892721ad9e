"""How many broken files every reader was given, and what came back that should not have.

Runs the property of tests/test_fuzz.py (a value or one of our errors, in little time and memory) on other files each
time, for the same processor time per target, without stopping at a finding: findings are counted by the place that
raised them. Every target has its turn in each of ROUNDS rounds. Writes benchmarks/results/fuzzing.json.

    python benchmarks/fuzzing.py --minutes 60
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

ROOT = Path(__file__).parents[1]
ROUNDS = 6
RESULTS = Path(__file__).parent / "results" / "fuzzing.json"
sys.path.insert(0, str(ROOT / "tests"))


class _TimeIsUp(BaseException):
    pass


def main() -> None:
    """Give every target its share of the minutes; figures are written after each."""
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="processor time, all targets together")
    parser.add_argument("targets", nargs="*", help="names of targets; none: all")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    names = arguments.targets or list(TARGETS)
    found: dict[str, Any] = {}
    began = time.process_time()
    for round_number, name in itertools.product(range(ROUNDS), names):
        new = fuzz(name, 60 * arguments.minutes / len(names) / ROUNDS)
        found[name] = add(found[name], new) if name in found else new
        print(f"round {round_number + 1}, {name}: {json.dumps(new)}", flush=True)
        write_json(
            RESULTS,
            {
                "claim": "broken files give a value or one of our errors, in 5 s and 1 GiB at most",
                "processor_minutes": round((time.process_time() - began) / 60, 1),
                "n_files": sum(each["n_files"] for each in found.values()),
                "targets": found,
                "provenance": provenance(),
            },
        )


def add(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The figures of one target after one more round."""
    return {
        "n_files": before["n_files"] + new["n_files"],
        "n_refused": before["n_refused"] + new["n_refused"],
        "slowest_s": max(before["slowest_s"], new["slowest_s"]),
        "findings": dict(Counter(before["findings"]) + Counter(new["findings"])),
    }


def fuzz(name: str, seconds: float) -> dict[str, Any]:
    """Files tried in so many seconds of processor time, how many were refused, the slowest, findings by place."""
    from fuzz_targets import TARGETS
    from test_fuzz import Broken, broken_folders, complaint_of, lay_out, little_memory

    target = TARGETS[name]
    place = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    (place / "made").mkdir()
    wholes = target.wholes(place / "made")
    n_files = n_refused = 0
    slowest_s, findings = 0.0, Counter[str]()
    began = time.process_time()

    @settings(
        max_examples=10**9,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(broken=broken_folders(target, wholes))
    def try_one(broken: Broken) -> None:
        nonlocal n_files, n_refused, slowest_s
        if time.process_time() - began > seconds:
            raise _TimeIsUp
        n_files += 1
        folder = lay_out(place / "broken", broken.files)
        one_began = time.process_time()
        try:
            with little_memory():
                complaint = complaint_of(target, folder)
            n_refused += bool(complaint)
            if complaint and str(folder) not in complaint:
                findings[f"unnamed: {complaint[:120]}"] += 1
        except Exception as error:
            findings[_place_of(error)] += 1
        slowest_s = max(slowest_s, time.process_time() - one_began)

    while time.process_time() - began < seconds:
        try:
            try_one()
        except _TimeIsUp:
            break
    return {
        "n_files": n_files,
        "n_refused": n_refused,
        "slowest_s": round(slowest_s, 2),
        "findings": dict(findings.most_common()),
    }


def _place_of(error: Exception) -> str:
    """The kind of an error, and the last line of this package it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if Path(each.filename).is_relative_to(ROOT / "listenwell")] or frames
    return f"{type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}: {str(error)[:80]}"


if __name__ == "__main__":
    main()
