"""Threads: numpy's products on one, and batches side by side, each computed on one thread of its own.

Small products gain little from several threads, and lose much beside other programs: the threads of OpenMP and of
numpy's BLAS wait for each other at every product, and one that is not given its core stops all (on two busy cores, 60 s
of windows took 4 s on one thread and 26 to 400 s on two; a spectrogram's one product 0.02 ms and 6 ms). One thread a
batch also makes its bits the same on any number of cores.

numpy's BLAS threads spin for some milliseconds after every product, on cores that torch's threads need: a training step
that makes its spectrograms itself takes half as long again (docs/speed.md).
"""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController


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
