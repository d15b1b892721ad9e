"""The sums of the layers whose backward pass is written out, against torch's own; attention, both ways."""

import pytest
import torch
from torch.nn.functional import rms_norm

from listenwell.errors import ModelError
from listenwell.model.language_layers import _attend, _RmsNorm, _Rotate, require_known_layers
from listenwell.model.loading import load_model
from listenwell.model.lora import _LowRankChange
from listenwell.model.packing import lay_out_rows
from listenwell.model.settings import ModelConfig


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_the_norm_and_its_gradient_are_torchs():
    x, weight, upstream = draw(2, 5, 8).float().detach().requires_grad_(), draw(8).float().detach(), draw(2, 5, 8)
    ours, theirs = _RmsNorm.apply(x, weight, 1e-5), rms_norm(x, (8,), weight, 1e-5)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(result, x, upstream.float())[0] for result in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_the_gradient_of_a_rotation_turns_back():
    angles = draw(2, 3, 1, 4).detach()
    assert torch.autograd.gradcheck(_Rotate.apply, (draw(2, 3, 16), angles.cos(), angles.sin()))


@pytest.mark.parametrize("drops", [False, True])
def test_the_gradients_of_a_low_rank_change_are_those_of_its_formula(drops):
    mask = (draw(2, 5, 6, seed=1).detach() > 0).double() if drops else None
    factor = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None]

    def change(output, x, a, b):
        dropped = x.detach() if mask is None else x.detach() * mask
        return _LowRankChange.apply(output, x, dropped, mask, a, b, factor)

    inputs = draw(2, 5, 7), draw(2, 5, 6), draw(2, 3, 6), draw(2, 7, 3)
    output, x, a, b = inputs
    kept = x if mask is None else x * mask
    torch.testing.assert_close(change(*inputs), output + factor * (kept @ a.transpose(1, 2)) @ b.transpose(1, 2))
    assert torch.autograd.gradcheck(change, inputs)


def test_attention_in_products_equals_the_fused_one():
    class Heads:
        head_dim, scaling = 4, 0.5

    query, key, value = (draw(2, 40, width, seed=width) for width in (16, 8, 8))
    layout = lay_out_rows([[9, 8, 3], [20, 9]], 11, query)
    found = []
    for most_keys in (10**6, 0):
        result = _attend(query, key, value, layout.attention, Heads, most_keys)
        found.append((result, *torch.autograd.grad(result.sin().sum(), (query, key, value))))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-6)


def test_a_language_model_of_other_layers_is_refused():
    network = load_model(ModelConfig(name="random", device="cpu")).language_model
    require_known_layers(network)
    network.layers[1].self_attn.sliding_window = 128
    with pytest.raises(ModelError, match="sliding windows"):
        require_known_layers(network)
    network.layers[0] = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="Linear"):
        require_known_layers(network)
