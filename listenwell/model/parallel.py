"""Threads and memory: numpy's products on one thread, batches side by side on one thread each, freed memory returned.

Small products gain little from several threads, and lose much beside other programs: the threads of OpenMP and of
numpy's BLAS wait for each other at every product, and one that is not given its core stops all (on two busy cores, 60 s
of windows took 4 s on one thread and 26 to 400 s on two; a spectrogram's one product 0.02 ms and 6 ms). numpy's BLAS
threads also spin for some milliseconds after every product, on cores that torch's threads need: a training step that
makes its spectrograms itself takes half as long again (docs/speed.md). One thread a batch makes its bits the same on
any number of cores.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController

MAPPED_FROM_BYTES = 2**20
_M_MMAP_THRESHOLD = -3


@contextmanager
def numpy_on_one_thread() -> Iterator[None]:
    """Within the block numpy's products are computed on the calling thread; torch keeps its threads."""
    with _blas_of_numpy().limit(limits=1):
        yield


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within the block every worker computes on one thread: a batch's bits do not depend on the number of cores."""
    before = torch.get_num_threads()
    with numpy_on_one_thread():
        if before == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _blas_of_numpy() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def cancelling_pool(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what it has not begun when the block ends with an error or Ctrl-C."""
    pool = ThreadPoolExecutor(n_threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_workers() -> int:
    """Batches worth computing at the same time: on a GPU one, otherwise one per core this process may use."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def return_freed_memory() -> None:
    """From now on, allocations of MAPPED_FROM_BYTES and more go back when they are freed, where the C library is glibc.

    glibc raises the size from which an allocation is a mapping of its own, up to 32 MiB, and keeps what lies below in a
    heap that only shrinks from its end. Gradient checkpointing frees every layer's activations, but between small
    tensors that stay: in the small model, six fits of sixteen clips, a step's peak was 1492 MiB so and 917 MiB with a
    fixed size. It costs about a tenth of the time, in calls of the system.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
    except (OSError, AttributeError):  # another C library
        return
