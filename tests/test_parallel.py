"""Threads inside and after the blocks: torch's and numpy's on one, or numpy's alone. Freed memory is given back."""

import subprocess
import sys

import numpy as np  # noqa: F401  its BLAS is what is limited
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from listenwell.model.parallel import cancelling_pool, numpy_on_one_thread, one_thread_each


def threads() -> tuple[int, set[int]]:
    return torch.get_num_threads(), {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(before)


def test_one_thread_inside_and_as_many_as_before_afterwards(two_threads):
    before = threads()
    with one_thread_each():
        assert threads() == (1, {1})
        with one_thread_each():
            assert threads() == (1, {1})
        assert threads() == (1, {1})
    assert threads() == before


def test_numpy_alone_is_held_to_one_thread(two_threads):
    before = threads()
    with numpy_on_one_thread():
        assert threads() == (2, {1})
    assert threads() == before


def test_workers_of_a_pool_compute_on_one_thread(two_threads):
    with one_thread_each(), cancelling_pool(3) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(20))) == {1}


HOLDS_MEMORY = """
import sys
import numpy
from pathlib import Path
from listenwell.model.parallel import return_freed_memory
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
    command = [sys.executable, "-c", HOLDS_MEMORY, wanted]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_pieces_of_eight_mebibytes_are_given_back():
    assert mib_given_back("yes") >= 0.9 * 10 * 8
