"""The language model's layers over packed rows: the same weights and sums as transformers', on a shorter road.

transformers' own forward masks the whole row against itself and computes every position of the last layer. Here a
layer attends block by block (listenwell.model.packing), the last one computes keys and values of all positions but the
rest only where an answer is read, and norms and rotations have their backward pass written out.
tests/test_equality.py holds all of it to transformers' padded forward, for the layers of Llama, Qwen2 and
Qwen2.5-Omni, which have the same names inside:
    h = h + o_proj(attention(rotate(q_proj(n)), rotate(k_proj(n)), v_proj(n))),    n = norm(h)
    h = h + down_proj(silu(gate_proj(m)) * up_proj(m)),                            m = norm(h)
Modules are called as modules, so that adapters' hooks and quantised weights work.

Shapes: K rows, L row length, D width, H heads, V heads of keys and values, G = H / V, C width of a head; of a block, n
clips, q queries, k keys.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from listenwell.errors import ModelError
from listenwell.model.packing import Block, BlockAttention, RowLayout

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of every position's angles, each (K, L, 1, C / 2)."""

LAYERS = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen2_5OmniDecoderLayer")
MOST_KEYS_IN_PRODUCTS = 256
"""Up to so many keys, a CPU takes attention as plain products: for eight clips of 1 s a third of the time of torch's
fused one. Longer ones would keep too many weights for the backward pass."""


def require_known_layers(language_model: Any) -> None:
    """Raise ModelError unless these layers are of the kinds whose sums stand here, without sliding windows."""
    kinds = {type(layer).__name__ for layer in language_model.layers}
    slides = kinds <= set(LAYERS) and any(
        getattr(layer.self_attn, "sliding_window", None) for layer in language_model.layers
    )
    if slides or not kinds <= set(LAYERS):
        raise ModelError(
            f"the language model has layers of the kinds {sorted(kinds)}{', with sliding windows' if slides else ''}; "
            f"{' or '.join(LAYERS)} without sliding windows were expected."
        )


def rotation_of(language_model: Any, hidden: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
    """The rotation of every position (K, L), in the precision of hidden (K, L, D)."""
    cosine, sine = language_model.rotary_emb(hidden, position_ids)
    half = cosine.shape[-1] // 2  # transformers' tables hold every angle twice
    return cosine[..., None, :half], sine[..., None, :half]


def run_layer(layer: Any, hidden: torch.Tensor, rotation: Rotation, blocks: BlockAttention) -> torch.Tensor:
    """One layer on all positions; hidden (K, L, D)."""
    attention, normed = layer.self_attn, norm(layer.input_layernorm, hidden)
    key, value = _rotate(attention.k_proj(normed), rotation), attention.v_proj(normed)
    query = _rotate(attention.q_proj(normed), rotation)
    hidden = hidden + attention.o_proj(_attend(query, key, value, blocks, attention))
    return hidden + _feed_forward(layer, hidden)


def run_last_layer(
    layer: Any, hidden: torch.Tensor, rotation: Rotation, layout: RowLayout, reading: AbstractContextManager[None]
) -> torch.Tensor:
    """The last layer where tokens are read, hidden (K, L, D) -> (K, R, D); keys and values come from all positions.

    reading: in this context the modules see the (K, R) positions that are read.
    """
    attention, normed = layer.self_attn, norm(layer.input_layernorm, hidden)
    key, value = _rotate(attention.k_proj(normed), rotation), attention.v_proj(normed)
    with reading:
        cosine, sine = (take(table, layout.read) for table in rotation)
        query = _rotate(attention.q_proj(take(normed, layout.read)), (cosine, sine))
        hidden = take(hidden, layout.read)
        hidden = hidden + attention.o_proj(_attend(query, key, value, layout.read_attention, attention))
        return hidden + _feed_forward(layer, hidden)


def take(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """What hidden (K, L, ...) holds at flat positions, any shape."""
    return hidden.flatten(0, 1).index_select(0, positions.flatten()).view(*positions.shape, *hidden.shape[2:])


def _feed_forward(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    normed = norm(layer.post_attention_layernorm, hidden)
    return layer.mlp.down_proj(layer.mlp.act_fn(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed))


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention: BlockAttention,
    module: Any,
    most_keys_in_products: int = MOST_KEYS_IN_PRODUCTS,
) -> torch.Tensor:
    """From query (K, ., H C), key and value (K, L, V C) -> (K, ., H C), block by block."""
    results = []
    for block in attention.blocks:
        in_products = query.device.type == "cpu" and block.keys.shape[1] <= most_keys_in_products
        results.append(_attend_block(query, key, value, block, module.head_dim, module.scaling, in_products))
    return torch.cat(results).index_select(0, attention.index).view(query.shape)


def _attend_block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    block: Block,
    width: int,
    scale: float,
    in_products: bool,
) -> torch.Tensor:
    """Results of a block's queries, (n q, H C). The G heads that share keys stand one below the other."""
    n, n_queries = block.queries.shape
    n_keys = block.keys.shape[1]
    q = take(query, block.queries).view(n, n_queries, -1, width)
    k, v = (take(tensor, block.keys).view(n, n_keys, -1, width).transpose(1, 2) for tensor in (key, value))
    n_shared = q.shape[2] // k.shape[1]
    q = q.view(n, n_queries, -1, n_shared, width).permute(0, 2, 3, 1, 4).flatten(2, 3)
    if in_products:
        weights = ((q * scale) @ k.transpose(2, 3)).view(n, -1, n_shared, n_queries, n_keys) + block.mask[:, None, None]
        # in float32: more exact, and faster than torch's own way for bfloat16
        attended = weights.softmax(-1, dtype=torch.float32).to(v.dtype).flatten(2, 3) @ v
    else:
        mask = block.mask.repeat(1, n_shared, 1).unsqueeze(1)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return attended.view(n, -1, n_shared, n_queries, width).permute(0, 3, 1, 2, 4).reshape(n * n_queries, -1)


def norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """A layer's norm, with the backward pass written out."""
    return _RmsNorm.apply(hidden, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]


def _rotate(projected: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    return _Rotate.apply(projected, *rotation)  # type: ignore[no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    """w x r with r = 1 / sqrt(mean(x^2) + epsilon), in float32, by the frozen weights w of a norm.

    The gradient for x is r w g - x r^3 mean(x w g), g being that of the result.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        r = torch.rsqrt(length.square() / x.shape[-1] + epsilon)
        ctx.save_for_backward(x, weight, r)
        return (x * r).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, weight, r = ctx.saved_tensors
        weighted = (gradient * weight).float()
        inner = (weighted * x).mean(-1, keepdim=True) * r.pow(3)
        return torch.addcmul(weighted * r, x.float(), inner, value=-1).to(x.dtype), None, None


class _Rotate(torch.autograd.Function):
    """The halves (p, q) of each head turned by the position's angles: (p cos - q sin, q cos + p sin). The gradient is
    turned back. x (K, ., heads x C)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turn(x, cosine, sine)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turn(gradient, cosine, -sine), None, None


def _turn(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    p, q = x.view(*x.shape[:2], -1, 2, cosine.shape[-1]).unbind(-2)
    return torch.cat([p * cosine - q * sine, q * cosine + p * sine], dim=-1).view(x.shape)
