"""The scheduler on paper: known timelines and bounds."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from listenwell.tasks.plan import simulate

durations = lists(floats(0.1, 100.0), min_size=1, max_size=30)


def test_the_next_stack_goes_to_whoever_is_free_first():
    assert simulate([3.0, 1.0, 1.0, 1.0], 2).end_s == 3.0
    assert simulate([1.0, 1.0, 1.0, 3.0], 2).end_s == 4.0
    assert simulate([1.0, 1.0, 1.0, 3.0], 2).idle_s == pytest.approx(2.0)


def test_64_workers_and_167_stacks_of_one_length_take_three_rounds_and_idle_13_percent():
    found = simulate([1.0] * 167, 64)
    assert found.end_s == pytest.approx(3.0)
    assert found.idle_s / (64 * found.end_s) == pytest.approx(0.13, abs=0.005)


@given(stacks=durations, n_workers=integers(1, 8))
def test_the_end_lies_between_the_bounds_of_list_scheduling(stacks, n_workers):
    end_s = simulate(stacks, n_workers).end_s
    least = max(max(stacks), sum(stacks) / n_workers)
    assert least - 1e-6 <= end_s <= sum(stacks) / n_workers + max(stacks) * (1 - 1 / n_workers) + 1e-6


@given(stacks=durations, n_workers=integers(1, 8))
def test_no_work_is_lost_or_invented(stacks, n_workers):
    found = simulate(stacks, n_workers)
    assert sum(stacks) + found.idle_s == pytest.approx(n_workers * found.end_s)
