"""Threads inside and after the blocks: torch's and numpy's on one, or numpy's alone."""

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


def test_the_number_comes_back_after_an_error(two_threads):
    before = threads()
    with pytest.raises(ValueError, match="stop"), one_thread_each():
        raise ValueError("stop")
    assert threads() == before


def test_workers_of_a_pool_compute_on_one_thread(two_threads):
    with one_thread_each(), cancelling_pool(3) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(20))) == {1}
