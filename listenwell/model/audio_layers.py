"""The audio encoder's layers over packed rows, alike in Qwen2-Audio and Qwen2.5-Omni, which have the same names inside:

    h = h + out_proj(attention(q_proj(n), k_proj(n), v_proj(n))),    n = self_attn_layer_norm(h)
    h = h + fc2(gelu(fc1(m))),                                        m = final_layer_norm(h)
Positions of a segment (a clip, or a window of one) attend to those of the same segment. A row holds the segments that
go through one adapter one after the other, without padding between them; attention is computed in blocks of segments
of similar length. tests/test_equality.py holds it to transformers' padded forward.

Shapes: K rows, L longest row, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from listenwell.model.language_layers import HeadShape, attend, take
from listenwell.model.lora import Adapter, Attached, Draw, Projection, join_modules
from listenwell.model.packing import MULTIPLE, BlockAttention, lay_out_segments, round_up


@dataclass(frozen=True, slots=True)
class AudioLayer:
    """One layer: norms, activation, and its linear modules by the input they read."""

    attention_norm: Any
    qkv: Projection
    output: Projection
    feed_forward_norm: Any
    first: Projection
    activation: Any
    second: Projection
    heads: HeadShape


def read_audio_layers(network: Any, prefix: str) -> list[AudioLayer]:
    """The layers of the audio encoder that `network` holds as its module `prefix`, their projections joined."""
    layers = []
    for number, layer in enumerate(network.get_submodule(prefix).layers):
        attention, name = layer.self_attn, f"{prefix}.layers.{number}"
        n_heads = attention.num_heads
        layers.append(
            AudioLayer(
                layer.self_attn_layer_norm,
                join_modules(network, *(f"{name}.self_attn.{leaf}_proj" for leaf in "qkv")),
                join_modules(network, f"{name}.self_attn.out_proj"),
                layer.final_layer_norm,
                join_modules(network, f"{name}.fc1"),
                layer.activation_fn,
                join_modules(network, f"{name}.fc2"),
                HeadShape(n_heads, n_heads, attention.head_dim, attention.scaling),
            )
        )
    return layers


def run_audio_layers(
    layers: Sequence[AudioLayer],
    hidden: torch.Tensor,
    lengths: Sequence[Sequence[int]],
    adapters: Sequence[Adapter],
) -> torch.Tensor:
    """Run the segments, hidden (n, W) of all rows one after the other, through all layers, row k through adapters[k].

    lengths: of each row's segments. Returns (n, W) in the same order.
    """
    row_lengths = [sum(row) for row in lengths]
    longest = round_up(max(row_lengths), MULTIPLE)
    rows = torch.stack([pad(row, (0, 0, 0, longest - row.shape[0])) for row in torch.split(hidden, row_lengths)])
    blocks, valid = lay_out_segments(lengths, longest, rows)
    attached = Attached(adapters, row_lengths, [_draw_padded(row, hidden.device) for row in lengths])
    for layer in layers:
        rows = _run_layer(layer, rows, blocks, attached)
    return take(rows, valid)


def _draw_padded(lengths: Sequence[int], device: torch.device) -> Draw:
    """Dropout is drawn for a row's segments as if each were as long as the longest."""
    longest = max(lengths)
    index = torch.cat([torch.arange(i * longest, i * longest + length) for i, length in enumerate(lengths)])
    return Draw(len(lengths) * longest, index.to(device))


def _run_layer(layer: AudioLayer, hidden: torch.Tensor, blocks: BlockAttention, attached: Attached) -> torch.Tensor:
    """One layer; hidden (K, L, W)."""
    width = hidden.shape[-1]
    projected = attached.project(layer.qkv, layer.attention_norm(hidden))
    query, keys_values = torch.split(projected, [width, 2 * width], dim=-1)
    hidden = attached.project(layer.output, attend(query, keys_values, blocks, layer.heads), hidden)
    activated = layer.activation(attached.project(layer.first, layer.feed_forward_norm(hidden)))
    return attached.project(layer.second, activated, hidden)
