"""Freed memory goes back to the system; elsewhere than with glibc nothing happens."""

import ctypes
import subprocess
import sys

import pytest

from listenwell.train import fit as freed_memory

PROGRAM = """
import sys
import numpy
from pathlib import Path
from listenwell.train.fit import return_freed_memory
if sys.argv[1] == "yes":
    return_freed_memory()
def held_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
numpy.ones(31 * 2**17)  # glibc now maps larger pieces only
large = [numpy.ones(2**20) for _ in range(20)]
small = []
for i in range(20):
    large[i] = None
    small.append(numpy.ones(1000))
    large[i] = numpy.ones(2**20) if i % 2 else None
before = held_mib()
large.clear()
print(before - held_mib())
"""


def mib_given_back(wanted: str) -> float:
    command = [sys.executable, "-c", PROGRAM, wanted]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_pieces_of_eight_mebibytes_are_given_back():
    assert mib_given_back("yes") >= 0.9 * 10 * 8


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def missing(name: str) -> None:
        raise error(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    freed_memory.return_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    freed_memory.return_freed_memory()
