"""The scheduler on paper: known timelines, bounds, and cores that are shared."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from listenwell.study.scheduling import shared_cores, simulate

durations = lists(floats(0.1, 100.0), min_size=1, max_size=30)


def test_the_next_stack_goes_to_whoever_is_free_first():
    assert simulate([3.0, 1.0, 1.0, 1.0], 2).end_s == 3.0
    assert simulate([1.0, 1.0, 1.0, 3.0], 2).end_s == 4.0
    assert simulate([1.0, 1.0, 1.0, 3.0], 2).idle_s == pytest.approx(2.0)


def test_a_worker_starts_once_and_only_when_it_is_needed():
    assert simulate([2.0, 2.0], 1, start_s=5.0).end_s == 9.0
    assert simulate([2.0, 2.0], 2, start_s=5.0).end_s == 7.0
    assert simulate([2.0], 4, start_s=5.0).busy_s == 7.0


def test_four_workers_on_two_cores_are_as_fast_as_two():
    two, four = (simulate([1.0] * 8, n, speed=shared_cores(2)).end_s for n in (2, 4))
    assert two == four == pytest.approx(4.0)
    assert simulate([1.0] * 8, 4, start_s=3.0, speed=shared_cores(2)).end_s == pytest.approx(10.0)


def test_workers_of_two_threads_on_two_cores_gain_nothing():
    assert simulate([1.0] * 4, 2, speed=shared_cores(2, threads=2)).end_s == pytest.approx(4.0)


def test_a_stack_that_is_left_alone_runs_at_full_speed_again():
    assert simulate([1.0, 3.0], 2, speed=shared_cores(1)).end_s == pytest.approx(4.0)


def test_64_workers_and_167_stacks_of_one_length_take_three_rounds_and_idle_13_percent():
    found = simulate([1.0] * 167, 64)
    assert found.end_s == pytest.approx(3.0)
    assert found.idle_share == pytest.approx(0.13, abs=0.005)


@given(stacks=durations, n_workers=integers(1, 8))
def test_the_end_lies_between_the_bounds_of_list_scheduling(stacks, n_workers):
    end_s = simulate(stacks, n_workers).end_s
    least = max(max(stacks), sum(stacks) / n_workers)
    assert least - 1e-6 <= end_s <= sum(stacks) / n_workers + max(stacks) * (1 - 1 / n_workers) + 1e-6


@given(stacks=durations, n_workers=integers(1, 8))
def test_no_work_is_lost_or_invented(stacks, n_workers):
    found = simulate(stacks, n_workers)
    assert found.busy_s == pytest.approx(sum(stacks))
    assert found.busy_s + found.idle_s == pytest.approx(n_workers * found.end_s)
