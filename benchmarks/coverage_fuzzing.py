"""Fuzzing that follows coverage: atheris (libFuzzer) on the readers of tests/fuzz_targets.py, one process each.

The first byte of an input says which file of which valid folder the rest replaces; the valid files are the first ones.
An error that is not one of ours, or names no file, ends a reader's turn and is written down. Files with a hash over
their content are mostly refused at it; their fields are what benchmarks/fuzzing.py changes.

    pip install atheris && python benchmarks/coverage_fuzzing.py --seconds 60    all readers, a minute of clock each
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from listenwell.atomic_files import write_json
from listenwell.run_folder import provenance

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "coverage_fuzzing.json"
SLOW = {"models", "adapters"}
"""Each input loads a model: coverage adds nothing to what benchmarks/fuzzing.py does."""
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Give every reader its turn; with --one, be that turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--one", help="used by this script itself")
    parser.add_argument("targets", nargs="*", help="names of readers; none: all but the slow ones")
    asked = parser.parse_args()
    if asked.one:
        fuzz(asked.one, asked.seconds)
        return
    from fuzz_targets import TARGETS

    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))["readers"] if RESULTS.is_file() else {}
    for name in asked.targets or [name for name in TARGETS if name not in SLOW]:
        found[name] = take_turn(name, asked.seconds)
        print(name, json.dumps(found[name]), flush=True)
        write_json(RESULTS, {
            "claim": "inputs that follow coverage give a value or one of our errors",
            "seconds_per_reader": asked.seconds,
            "n_inputs": sum(each["n_inputs"] for each in found.values()),
            "n_findings": sum(each["finding"] is not None for each in found.values()),
            "readers": found, "provenance": provenance(),
        })  # fmt: skip


def take_turn(name: str, seconds: int) -> dict[str, Any]:
    """Run one reader's fuzzer: inputs tried, edges covered (0: all refused alike), the beginning of a finding."""
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20 * seconds + 600).stderr
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    edges = re.findall(r"cov: (\d+)", said)
    if tried is None:
        raise SystemExit(f"{name}: the fuzzer did not run: {said[-2000:]}")
    stopped = re.search(r"Uncaught Python exception|ERROR: libFuzzer", said)
    finding = said[stopped.start() : stopped.start() + 1500] if stopped else None
    return {"n_inputs": int(tried[1]), "n_edges": int(edges[-1]) if edges else 0, "finding": finding}


def fuzz(name: str, seconds: int) -> None:
    """Feed one reader until the time is over; does not return."""
    import atheris

    with atheris.instrument_imports(include=["listenwell"]):
        from fuzz_targets import TARGETS
        from test_fuzz import complaint_of, lay_out
    target = TARGETS[name]
    warnings.simplefilter("error")
    place = Path(tempfile.mkdtemp(prefix="coverage-fuzzing-"))
    (place / "made").mkdir()
    (place / "inputs").mkdir()
    wholes = target.wholes(place / "made")
    places = [(whole, file) for whole in wholes for file in whole if file not in target.left_whole or len(whole) == 1]
    for number, (whole, file) in enumerate(places[:256]):
        (place / "inputs" / str(number)).write_bytes(bytes([number]) + whole[file])

    def read_one(data: bytes) -> None:
        if not data:
            return
        whole, file = places[data[0] % len(places)]
        folder = lay_out(place / "broken", {**whole, file: data[1:]})
        complaint = complaint_of(target, folder)
        if complaint and str(folder) not in complaint:
            raise AssertionError(f"names no file: {complaint}")

    options = [
        f"-max_total_time={seconds}", "-max_len=65536", "-timeout=10", "-rss_limit_mb=3000", "-print_final_stats=1",
        f"-artifact_prefix={place}/", "-seed=42",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(place / "inputs")], read_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
