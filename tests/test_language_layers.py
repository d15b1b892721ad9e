"""The sums of the layers whose backward pass is written out, against torch's own; attention, both ways."""

import pytest
import torch
from torch.nn.functional import rms_norm

from listenwell.errors import ModelError
from listenwell.model.language_layers import HeadShape, _RmsNorm, _Rotate, _SiluGate, attend, read_layers
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, Attached, LoraPair, join_modules
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


def test_queries_and_keys_are_turned_values_are_not_and_the_gradient_turns_back():
    angles, x = draw(2, 3, 1, 2).detach(), draw(2, 3, 16)
    rotation = angles.cos(), angles.sin()
    query, keys_values = _Rotate.apply(x, *rotation, 2, 1)
    assert torch.equal(keys_values[..., 4:], x[..., 12:])
    back, _ = _Rotate.apply(torch.cat([query, keys_values], dim=-1), angles.cos(), -angles.sin(), 2, 1)
    torch.testing.assert_close(back, x[..., :8])
    assert torch.autograd.gradcheck(_Rotate.apply, (x, *rotation, 2, 1))


def test_the_gate_and_its_gradient_are_torchs():
    x = draw(2, 3, 8)
    torch.testing.assert_close(_SiluGate.apply(x), torch.nn.functional.silu(x[..., :4]) * x[..., 4:])
    assert torch.autograd.gradcheck(_SiluGate.apply, (x,))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_projection_is_its_modules_with_their_adapters_side_by_side(with_bias, with_residual, dropout):
    network = torch.nn.ModuleDict(
        {"q_proj": torch.nn.Linear(6, 4, bias=with_bias), "k_proj": torch.nn.Linear(6, 3, bias=False)}
    )
    network = network.requires_grad_(False)
    apart = {name: (module.weight.clone(), module.bias) for name, module in network.items()}
    projection = join_modules(network, "q_proj", "k_proj")
    # of other ranks, one adapter without the second module
    pairs = [{"q_proj": (2, 4), "k_proj": (3, 3)}, {"q_proj": (1, 4)}]
    adapters = [
        Adapter(
            1.5 + k,
            {
                name: LoraPair(
                    draw(rank, 6, seed=k).float().detach().requires_grad_(),
                    draw(n_out, rank, seed=9).float().detach().requires_grad_(),
                )
                for name, (rank, n_out) in each.items()
            },
            dropout=dropout,
            dropout_key=(k, 1),
        )
        for k, each in enumerate(pairs)
    ]
    x = draw(2, 5, 6).float().detach().requires_grad_()
    residual = draw(2, 5, 7, seed=5).float().detach().requires_grad_() if with_residual else None
    attached = Attached(adapters)
    mask = attached._mask(projection, x)
    assert (mask is None) == (dropout == 0)
    kept = x if mask is None else x * mask
    expected = []
    for k, adapter in enumerate(adapters):
        outputs = []
        for name, (weight, bias) in apart.items():
            output = torch.nn.functional.linear(x[k], weight, bias)
            if name in adapter.pairs:
                pair = adapter.pairs[name]
                output = output + adapter.scale / (1 - adapter.dropped_share) * kept[k] @ pair.a.T @ pair.b.T
            outputs.append(output)
        expected.append(torch.cat(outputs, dim=-1))
    theirs = torch.stack(expected) + (0 if residual is None else residual)
    ours = attached.project(projection, x, residual)
    torch.testing.assert_close(ours, theirs)
    inputs = [x, *([residual] if with_residual else []), *(f for adapter in adapters for f in adapter.factors())]
    gradients = [torch.autograd.grad(result.sin().sum(), inputs) for result in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-5)


def test_attention_in_products_equals_the_fused_one():
    query, keys_values = draw(2, 40, 16, seed=16), draw(2, 40, 16, seed=8)
    layout = lay_out_rows([[9, 8, 3], [20, 9]], 11, query)
    found = []
    for most_keys in (10**6, 0):
        result = attend(query, keys_values, layout.attention, HeadShape(4, 2, 4, 0.5), most_keys)
        found.append((result, *torch.autograd.grad(result.sin().sum(), (query, keys_values))))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-6)


def test_joined_weights_follow_what_is_written_into_the_modules():
    network = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2, bias=False) for name in ("q_proj", "k_proj")})
    projection = join_modules(network.requires_grad_(False), "q_proj", "k_proj")
    network["k_proj"].weight.fill_(2.0)
    assert projection.weight[2:].eq(2.0).all()
    assert projection.part(1, 2).weight.eq(2.0).all()


def test_a_language_model_of_other_layers_is_refused():
    network = load_model(ModelConfig(name="random", device="cpu")).network
    layers = network.model.language_model.layers
    read_layers(network, "model.language_model")
    layers[1].self_attn.sliding_window = 128
    with pytest.raises(ModelError, match="sliding windows"):
        read_layers(network, "model.language_model")
    layers[0] = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="Linear"):
        read_layers(network, "model.language_model")
