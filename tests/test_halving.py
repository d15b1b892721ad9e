"""Successive halving: who ends at which rung follows from the histories alone."""

from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from listenwell.fits.halving import dropped_at
from listenwell.train.fit import Standing


def at(*losses, ended=False, failed=False):
    return Standing(tuple({"dev_loss": loss} for loss in losses), has_ended=ended or failed, has_failed=failed)


def test_the_worse_half_by_the_lowest_dev_loss_so_far_ends_at_a_rung():
    found = dropped_at({"a": at(0.5, 0.9), "b": at(0.6, 0.6), "c": at(0.7, 0.2), "d": at(0.8, 0.8)}, (2,), 0.5)
    assert found == {"b": 2, "d": 2}


def test_a_rung_is_not_decided_before_every_trial_in_the_bracket_has_reached_it():
    assert dropped_at({"a": at(0.5, 0.5), "b": at(0.6)}, (2,), 0.5) == {}
    assert dropped_at({"a": at(0.5, 0.5), "b": at(0.6, 0.6)}, (2,), 0.5) == {"b": 2}


def test_later_epochs_do_not_change_what_an_earlier_rung_decided():
    early = dropped_at({"a": at(0.5), "b": at(0.6)}, (1, 3), 0.5)
    assert early == dropped_at({"a": at(0.5, 0.9, 0.9), "b": at(0.6, 0.1, 0.1)}, (1, 3), 0.5) == {"b": 1}


def test_each_rung_ranks_those_that_are_still_in_the_bracket():
    standings = {"a": at(4.0, 0.1), "b": at(3.0, 0.2), "c": at(2.0, 0.5), "d": at(1.0, 4.0)}
    assert dropped_at(standings, (1, 2), 0.5) == {"a": 1, "b": 1, "d": 2}


def test_a_failed_trial_takes_the_last_place_and_is_dropped_no_more():
    assert dropped_at({"a": at(0.5), "b": at(failed=True)}, (1,), 0.5) == {}
    assert dropped_at({"a": at(0.5), "b": at(0.6), "c": at(failed=True)}, (1,), 0.5) == {}
    assert dropped_at({"a": at(0.5), "b": at(0.6), "c": at(failed=True)}, (1,), 0.3) == {"b": 1}


def test_a_trial_with_no_epochs_left_keeps_its_rank_and_its_result():
    assert dropped_at({"a": at(0.5), "short": at(0.9, ended=True)}, (1,), 0.5) == {}
    assert dropped_at({"a": at(0.9), "short": at(0.5, ended=True)}, (1,), 0.5) == {"a": 1}


def test_of_equal_trials_the_first_goes_on_and_one_always_does():
    assert dropped_at({"a": at(0.5), "b": at(0.5)}, (1,), 0.1) == {"b": 1}
    assert dropped_at({"only": at(0.5)}, (1,), 0.1) == {}


@given(losses=lists(floats(0, 9), min_size=1, max_size=12), share=floats(0.05, 0.95), rungs=integers(1, 4))
def test_the_best_trial_is_never_dropped_and_every_rung_leaves_the_share(losses, share, rungs):
    standings = {str(i): at(*[loss] * rungs) for i, loss in enumerate(losses)}
    dropped = dropped_at(standings, tuple(range(1, rungs + 1)), share)
    kept = [losses[int(name)] for name in standings if name not in dropped]
    assert min(kept) == min(losses)
    assert max(kept) <= min([losses[int(name)] for name in dropped], default=9)
