"""Whether the tests notice a changed line: mutants of the evaluation, the splits, the leak gate, mixing and the seal.

mutmut (https://mutmut.readthedocs.io) changes one operator, constant, argument or call at a time, and runs the tests
that reach the changed function: the fast ones, none that trains a nested study. A sample of each module's mutants is
tried, drawn by a fixed seed. It needs an environment that holds the project's packages but not the project itself, and
a clone to work in:

    python -m venv /tmp/mutation && /tmp/mutation/bin/pip install 'mutmut==3.8.1'
    echo "$PWD/.venv/lib/python3.11/site-packages" > /tmp/mutation/lib/python3.11/site-packages/project.pth
    git clone . /tmp/mutated && cd /tmp/mutated
    /tmp/mutation/bin/python benchmarks/mutation.py --tried 12 --output benchmarks/results/mutation.json
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from pathlib import Path

MODULES = (
    "listenwell/evaluate/*.py",
    "listenwell/data/splits.py",
    "listenwell/data/folds.py",
    "listenwell/data/leakage.py",
    "listenwell/data/near_duplicates.py",
    "listenwell/study/ledger.py",
    "listenwell/augment/mixing.py",
    "listenwell/augment/level.py",
    "listenwell/seal.py",
)
TESTS = (
    "calibration comparison transfer intervals power traps metrics predictions probabilities psychometric scores "
    "significance splits leakage near_duplicates mixing seal compare "
    "leave_one_speaker_out runs judging methods cross_fitting"
).split()
COPIED = ("README.md", "CHANGELOG.md", "benchmarks", "configs", "docs", "tests")
SETTINGS = {
    "source_paths": ["listenwell"],
    "only_mutate": MODULES,
    "also_copy": COPIED,
    "pytest_add_cli_args_test_selection": [f"tests/test_{name}.py" for name in TESTS],
    "pytest_add_cli_args": ["-p", "no:cacheprovider", "-k", "not nested"],
}
SURVIVED = 0
UNREACHED = 33  # mutmut's code for a mutant that no test reaches


def main() -> None:
    """Make the mutants, try a sample, write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tried", type=int, default=12, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=50.0, help="then the rest of the sample stays untried")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--again", action="store_true", help="try the survivors in --output on the tests as they are now"
    )
    arguments = parser.parse_args()
    if arguments.again:
        try_again(arguments.output)
        return
    lines = [f"{name}=\n    " + "\n    ".join(values) for name, values in SETTINGS.items()]
    Path("setup.cfg").write_text("[mutmut]\n" + "\n".join(lines) + "\n")
    run_mutmut("listenwell.augment.level.x_find_peak__mutmut_1")  # makes all mutants, tries one
    chosen = {module: sample(names, arguments.tried, arguments.seed) for module, names in read_codes().items()}
    run_mutmut(*(name for names in chosen.values() for name in names), minutes=arguments.minutes)
    rows = [describe(module, codes) for module, codes in read_codes().items() if codes]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {"commit": commit, "machine": platform.machine(), "seed": arguments.seed, "tool": "mutmut 3.8.1"}
    arguments.output.write_text(json.dumps(result | {"modules": rows}, indent=2) + "\n")


def run_mutmut(*names: str, minutes: float | None = None) -> None:
    """Try mutants, those that quick tests reach first, until the time is up."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    try:
        subprocess.run(command, check=True, timeout=minutes and 60 * minutes)
    except subprocess.TimeoutExpired:
        print(f"stopped after {minutes:g} minutes")


def try_again(output: Path) -> None:
    """Add to the result which survivors live on under the tests as this clone has them now."""
    result = json.loads(output.read_text())
    shutil.copytree("tests", "mutants/tests", dirs_exist_ok=True)
    for row in result["modules"]:
        row["survived_now"] = [name for name in row["survived"] if survives(name)]
        output.write_text(json.dumps(result, indent=2) + "\n")


def survives(name: str) -> bool:
    """True when the test files that reach the mutant pass with it."""
    reached = json.loads(Path("mutants/mutmut-stats.json").read_text())["tests_by_mangled_function_name"]
    files = sorted({test.partition("::")[0] for test in reached[name.partition("__mutmut_")[0]]})
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "not nested", "-p", "no:cacheprovider", *files]
    code = subprocess.run(command, cwd="mutants", env=os.environ | {"MUTANT_UNDER_TEST": name}, check=False).returncode
    if code not in (0, 1):
        raise SystemExit(f"{name}: pytest ended with {code}, so nothing is known of it")
    return code == 0


def read_codes() -> dict[str, dict[str, int | None]]:
    """By module, each mutant's exit status of pytest; None where it was not tried."""
    folder = Path("mutants")
    return {
        str(path.relative_to(folder)).removesuffix(".meta"): json.loads(path.read_text())["exit_code_by_key"]
        for path in sorted(folder.glob("listenwell/**/*.meta"))
    }


def sample(names: dict[str, int | None], n: int, seed: int) -> list[str]:
    return sorted(random.Random(seed).sample(sorted(names), min(n, len(names))))


def describe(module: str, codes: dict[str, int | None]) -> dict[str, object]:
    tried = [name for name, code in codes.items() if code is not None]
    survived, unreached = ([name for name in tried if codes[name] == code] for code in (SURVIVED, UNREACHED))
    return {
        "module": module,
        "made": len(codes),
        "tried": len(tried),
        "killed": len(tried) - len(survived) - len(unreached),
        "unreached": len(unreached),
        "survived": survived,
    }


if __name__ == "__main__":
    main()
