"""A stream depends on its key alone, and different keys are independent."""

import numpy as np

from listenwell.random_streams import stream, stream_key


def test_the_same_key_gives_the_same_draws_whatever_was_drawn_elsewhere():
    first = stream(1, "augment", 2, "clip").random(5)
    stream(1, "augment", 2, "other").random(1000)
    assert np.array_equal(stream(1, "augment", 2, "clip").random(5), first)


def test_every_part_of_the_key_counts_its_type_and_its_place_too():
    keys = [(1, "a", 2), (2, "a", 2), (1, "a", "2"), (1, 2, "a"), (1, "a"), (1, "a2"), (1, "a", 2, "")]
    assert len({stream_key(*key) for key in keys}) == len(keys)


def test_a_key_is_the_same_number_on_every_machine():
    assert stream_key(42, "augment", 1, "clip") == 0xE82BBE0925875970590F349E35CCFE00
