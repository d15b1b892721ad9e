"""The language model's layers over packed rows: the same weights and sums as transformers', on a shorter road.

transformers' own forward masks the whole row against itself and computes every position of the last layer. Here a
layer attends block by block (listenwell.model.packing), the last one computes keys and values of all positions but the
rest only where an answer is read, and norms, rotations and gates have their backward pass written out.
tests/test_equality.py holds all of it to transformers' padded forward, for the layers of Llama, Qwen2 and
Qwen2.5-Omni, which have the same names inside:
    h = h + o_proj(attention(rotate(q_proj(n)), rotate(k_proj(n)), v_proj(n))),    n = norm(h)
    h = h + down_proj(silu(gate_proj(m)) * up_proj(m)),                            m = norm(h)
Shapes: K rows, L row length, D width, H heads, V heads of keys and values, G = H / V, C width of a head; of a block, n
clips, q queries, k keys.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention, silu

from listenwell.errors import ModelError
from listenwell.model.lora import Attached, Projection, join_modules
from listenwell.model.packing import Block, BlockAttention, RowLayout

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of every position's angles, each (K, L, 1, C / 2)."""

LAYERS = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen2_5OmniDecoderLayer")
MOST_KEYS_IN_PRODUCTS = 256
"""Up to so many keys, a CPU takes attention as plain products: for eight clips of 1 s a third of the time of torch's
fused one. Longer ones would keep too many weights for the backward pass."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Heads of queries, heads of keys and of values, the width of each, and what products are scaled by."""

    n_queries: int
    n_keys: int
    width: int
    scale: float


@dataclass(frozen=True, slots=True)
class LanguageLayer:
    """One layer: norms, and its linear modules by the input they read."""

    input_norm: Any
    qkv: Projection
    output: Projection
    feed_forward_norm: Any
    gate_up: Projection
    down: Projection
    heads: HeadShape


def read_layers(network: Any, prefix: str) -> list[LanguageLayer]:
    """The layers of the language model that `network` holds as its module `prefix`, their projections joined.

    Raises ModelError unless they are of the kinds whose sums stand here, without sliding windows.
    """
    language_model = network.get_submodule(prefix)
    _require_known_layers(language_model)
    layers = []
    for number, layer in enumerate(language_model.layers):
        attention, name = layer.self_attn, f"{prefix}.layers.{number}"
        qkv = join_modules(network, *(f"{name}.self_attn.{leaf}_proj" for leaf in "qkv"))
        n_queries, n_keys, _ = (size // attention.head_dim for size in qkv.sizes)
        layers.append(
            LanguageLayer(
                layer.input_layernorm,
                qkv,
                join_modules(network, f"{name}.self_attn.o_proj"),
                layer.post_attention_layernorm,
                join_modules(network, f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"),
                join_modules(network, f"{name}.mlp.down_proj"),
                HeadShape(n_queries, n_keys, attention.head_dim, attention.scaling),
            )
        )
    return layers


def _require_known_layers(language_model: Any) -> None:
    kinds = {type(layer).__name__ for layer in language_model.layers}
    slides = kinds <= set(LAYERS) and any(
        getattr(layer.self_attn, "sliding_window", None) for layer in language_model.layers
    )
    if slides or not kinds <= set(LAYERS):
        raise ModelError(
            f"the language model has layers of the kinds {sorted(kinds)}{', with sliding windows' if slides else ''}; "
            f"{' or '.join(LAYERS)} without sliding windows were expected."
        )
    if (activation := language_model.config.hidden_act) not in ("silu", "swish"):
        raise ModelError(f"the language model's activation is '{activation}'; silu was expected.")


def rotation_of(language_model: Any, hidden: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
    """The rotation of every position (K, L), in the precision of hidden (K, L, D)."""
    cosine, sine = language_model.rotary_emb(hidden, position_ids)
    half = cosine.shape[-1] // 2  # transformers' tables hold every angle twice
    return cosine[..., None, :half].contiguous(), sine[..., None, :half].contiguous()


def run_layer(
    layer: LanguageLayer, hidden: torch.Tensor, rotation: Rotation, blocks: BlockAttention, attached: Attached
) -> torch.Tensor:
    """One layer on all positions; hidden (K, L, D)."""
    heads = layer.heads
    projected = attached.project(layer.qkv, norm(layer.input_norm, hidden))
    query, keys_values = _rotate(projected, rotation, heads.n_queries, heads.n_keys)
    attended = attend(query, keys_values, blocks, heads)
    return _feed_forward(layer, attached.project(layer.output, attended, hidden), attached)


def run_last_layer(
    layer: LanguageLayer,
    hidden: torch.Tensor,
    rotation: Rotation,
    layout: RowLayout,
    attached: Attached,
    reading: Attached,
) -> torch.Tensor:
    """The last layer where tokens are read, hidden (K, L, D) -> (K, R, D); keys and values come from all positions.

    reading: the adapters for the (K, R) positions that are read.
    """
    heads, normed = layer.heads, norm(layer.input_norm, hidden)
    _, keys_values = _rotate(attached.project(layer.qkv.part(1, 3), normed), rotation, 0, heads.n_keys)
    cosine, sine = (take(table, layout.read) for table in rotation)
    query, _ = _rotate(
        reading.project(layer.qkv.part(0, 1), take(normed, layout.read)), (cosine, sine), heads.n_queries, 0
    )
    attended = attend(query, keys_values, layout.read_attention, heads)
    return _feed_forward(layer, reading.project(layer.output, attended, take(hidden, layout.read)), reading)


def take(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """What hidden (K, L, ...) holds at flat positions, any shape."""
    return hidden.flatten(0, 1).index_select(0, positions.flatten()).view(*positions.shape, *hidden.shape[2:])


def _feed_forward(layer: LanguageLayer, hidden: torch.Tensor, attached: Attached) -> torch.Tensor:
    gate_up = attached.project(layer.gate_up, norm(layer.feed_forward_norm, hidden))
    gated: torch.Tensor = _SiluGate.apply(gate_up)  # type: ignore[no-untyped-call]
    return attached.project(layer.down, gated, hidden)


def attend(
    query: torch.Tensor,
    keys_values: torch.Tensor,
    attention: BlockAttention,
    heads: HeadShape,
    most_keys_in_products: int = MOST_KEYS_IN_PRODUCTS,
) -> torch.Tensor:
    """From query (K, ., H C), keys and values (K, L, 2 V C) -> (K, ., H C), block by block."""
    results = []
    for block in attention.blocks:
        in_products = query.device.type == "cpu" and block.keys.shape[1] <= most_keys_in_products
        results.append(_attend_block(query, keys_values, block, heads, in_products))
    return torch.cat(results).index_select(0, attention.index).view(query.shape)


def _attend_block(
    query: torch.Tensor, keys_values: torch.Tensor, block: Block, heads: HeadShape, in_products: bool
) -> torch.Tensor:
    """Results of a block's queries, (n q, H C). The G heads that share keys stand one below the other."""
    n, n_queries = block.queries.shape
    n_keys, n_shared = block.keys.shape[1], heads.n_queries // heads.n_keys
    q = take(query, block.queries).view(n, n_queries, heads.n_keys, n_shared, heads.width)
    q = q.permute(0, 2, 3, 1, 4).reshape(n, heads.n_keys, n_shared * n_queries, heads.width)
    both = take(keys_values, block.keys).view(n, n_keys, 2, heads.n_keys, heads.width)
    k, v = both.permute(2, 0, 3, 1, 4).contiguous()
    if in_products:
        products = (q @ k.transpose(2, 3)).view(n, heads.n_keys, n_shared, n_queries, n_keys)
        # in float32: more exact, and faster than torch's own way for bfloat16
        weights = torch.add(block.mask[:, None, None], products, alpha=heads.scale).softmax(-1)
        attended = weights.to(v.dtype).view(n, heads.n_keys, n_shared * n_queries, n_keys) @ v
    else:
        mask = block.mask.to(q.dtype).repeat(1, n_shared, 1).unsqueeze(1)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=heads.scale)
    return attended.view(n, -1, n_shared, n_queries, heads.width).permute(0, 3, 1, 2, 4).reshape(n * n_queries, -1)


def norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """A layer's norm, with the backward pass written out."""
    return _RmsNorm.apply(hidden, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]


def _rotate(
    projected: torch.Tensor, rotation: Rotation, n_queries: int, n_keys: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return _Rotate.apply(projected, *rotation, n_queries, n_keys)  # type: ignore[no-untyped-call]


class _SiluGate(torch.autograd.Function):
    """silu(g) u, for g and u side by side in x (..., 2 I).

    With r the gradient of the result and s = sigmoid(g), that for g is r u s (1 + g (1 - s)), for u it is r silu(g).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = x.chunk(2, dim=-1)
        ctx.save_for_backward(x)
        return silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        of_x = torch.empty_like(x)
        of_gate, of_up = of_x.chunk(2, dim=-1)
        torch.mul(gradient, silu(gate), out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return of_x


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
    """Of x (K, ., (queries + 2 keys) C) the heads of queries (K, ., queries C) and of keys turned by their position's
    angles, and those of values as they are, keys and values side by side (K, ., 2 keys C).

    The halves (p, q) of each head become (p cos - q sin, q cos + p sin); the gradient is turned back.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, n_queries: int, n_keys: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(cosine, sine)
        width = 2 * cosine.shape[-1]
        ctx.sizes = [n_queries * width, n_keys * width, n_keys * width]
        query, key, value = torch.split(x, ctx.sizes, dim=-1)
        keys_values = x.new_empty(*x.shape[:2], 2 * ctx.sizes[1])
        turned = torch.empty_like(query)
        _turn(query, cosine, sine, turned)
        _turn(key, cosine, sine, keys_values[..., : ctx.sizes[1]])
        keys_values[..., ctx.sizes[1] :] = value
        return turned, keys_values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_query: torch.Tensor, of_keys_values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cosine, sine = ctx.saved_tensors
        of_x = of_query.new_empty(*of_query.shape[:2], sum(ctx.sizes))
        query, key, value = torch.split(of_x, ctx.sizes, dim=-1)
        _turn(of_query, cosine, -sine, query)
        _turn(of_keys_values[..., : ctx.sizes[1]], cosine, -sine, key)
        value.copy_(of_keys_values[..., ctx.sizes[1] :])
        return of_x, None, None, None, None


def _turn(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, out: torch.Tensor) -> None:
    """Write x (K, ., heads C), turned, into out."""
    if not x.shape[-1]:
        return
    (p, q), (of_p, of_q) = (torch.unflatten(t, -1, (-1, 2, cosine.shape[-1])).unbind(-2) for t in (x, out))
    torch.mul(p, cosine, out=of_p).addcmul_(q, sine, value=-1)
    torch.mul(q, cosine, out=of_q).addcmul_(p, sine)
