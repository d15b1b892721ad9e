"""Dropout masks drawn on a GPU: as keyed as those drawn on the CPU. (The function runs on any device.)"""

import pytest
import torch

from listenwell.model.lora import Adapter, keep_mask

WIDTH = 64


def keep_on_device(*arguments) -> torch.Tensor:
    return keep_mask(*arguments, on_cpu=False)


def adapter(seed: int, batch: int = 0, share: float = 0.25) -> Adapter:
    return Adapter(1.0, {}, dropout=share, dropout_key=(seed, batch))


def test_a_row_meets_the_same_mask_alone_and_in_a_stack():
    stack = keep_on_device("layers.0.q_proj", torch.zeros(2, 7, WIDTH), [adapter(1), adapter(2)], [7, 5])
    one, other = (
        keep_on_device("layers.0.q_proj", torch.zeros(1, n, WIDTH), [adapter(seed)], None)
        for seed, n in ((1, 7), (2, 5))
    )
    assert torch.equal(stack[0], one[0])
    assert torch.equal(stack[1, :5], other[0])
    assert not torch.equal(one[0, :5], other[0])


def test_fill_positions_and_adapters_out_of_training_keep_their_inputs():
    silent = Adapter(1.0, {}, dropout=0.5)
    mask = keep_on_device("m", torch.zeros(2, 9, WIDTH), [adapter(1, share=0.9), silent], [4, 9])
    assert mask[0, 4:].all()
    assert mask[1].all()
    assert not mask[0, :4].all()


@pytest.mark.parametrize("changed", ["seed", "batch", "module"])
def test_every_part_of_the_key_draws_another_mask(changed):
    x = torch.zeros(3, 5, WIDTH)
    first = keep_on_device("m", x, [adapter(1)], [5, 2, 5])
    again = keep_on_device("m", x, [adapter(1)], [5, 2, 5])
    other = keep_on_device(
        "n" if changed == "module" else "m",
        x,
        [adapter(2 if changed == "seed" else 1, 1 if changed == "batch" else 0)],
        [5, 2, 5],
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_dropped_share_is_the_one_that_the_factor_makes_up_for():
    trained = adapter(1, share=0.1)
    mask = keep_on_device("m", torch.zeros(1, 4000, WIDTH), [trained], None)
    assert 1 - mask.mean().item() == pytest.approx(trained.dropped_share, abs=0.003)
