"""Break a study many times, half an hour: kills, flipped bits, broken files, failing and full disks, power cuts.

The tests are those of `make test`, which has a few of each. Half an hour more goes to the properties, on a thousand
drawn examples each (profile wide of tests/conftest.py), where `make test` takes the same hundred every time: what this
finds is written down beside its property with @example. Writes benchmarks/results/soak.json: for every file of
tests how many passed, failed and were skipped, and how long they took. Ends with pytest's exit status.

    python benchmarks/soak.py
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
FILES = ("test_kills", "test_bit_rot", "test_fuzz", "test_failing_disks")
OFTEN = {
    "LISTENWELL_KILLS": "20",
    "LISTENWELL_FLIPS": "10",
    "LISTENWELL_FUZZ_EXAMPLES": "2000",
    "LISTENWELL_DISK_FAULTS": "60",
}


PROPERTIES = ("-m", "hypothesis", "--timeout=1800", "--ignore=tests/test_fuzz.py", "tests")
"""Every test of hypothesis, which marks them; the fuzzing has its own number above."""
WIDE = {"LISTENWELL_EXAMPLES": "wide"}


def main() -> None:
    """Run the tests and write what came of them."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    began = time.monotonic()
    broken, by_file = run_tests([f"tests/{name}.py" for name in FILES], OFTEN)
    refuted, properties = run_tests(PROPERTIES, WIDE)
    write_json(
        RESULTS,
        {
            "claim": "however a study is stopped or its files are damaged, no result is lost and none is another",
            "asked": {name: ({**OFTEN, **WIDE} | os.environ)[name] for name in (*OFTEN, *WIDE)},
            "seconds": round(time.monotonic() - began),
            "files": by_file,
            "properties": properties,
            "provenance": provenance(),
        },
    )
    sys.exit(broken or refuted)


def run_tests(selection: Sequence[str], settings: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run these tests in a process of their own; settings: variables, which the caller's own go before."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *selection]
        status = subprocess.run(command, cwd=ROOT, env={**settings, **os.environ}, check=False).returncode
        return status, count(report)


def count(report: Path) -> dict[str, dict[str, Any]]:
    """By file of tests: tests by outcome, and their seconds."""
    by_file: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ends = Counter(child.tag for child in case if child.tag in ("failure", "error", "skipped"))
        found = by_file.setdefault(case.attrib["classname"], Counter())
        found[next(iter(ends), "passed")] += 1
        found["seconds"] += float(case.attrib["time"])
    return {name: {**found, "seconds": round(found["seconds"], 1)} for name, found in by_file.items()}


if __name__ == "__main__":
    main()
