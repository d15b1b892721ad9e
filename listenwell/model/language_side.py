"""The language model's half of a model, the same for every family: packed rows, adapters, two answer rows.

transformers' forward makes logits of the whole vocabulary at every position; `answer_logits` multiplies the answer
positions by the rows of the two answers. A family whose network holds the halves `model.audio_tower` and
`model.language_model`, an `lm_head`, and one linear projector between them gets all of this from here, and brings its
tower itself. tests/test_qwen2_audio.py and tests/test_qwen2_5_omni.py hold it to transformers' padded forward.

Shapes: B clips, W tower width, D language-model width, K rows, L row length.

The language model's layers over packed rows: the same weights and sums as transformers', on a shorter road.

transformers' own forward masks the whole row against itself and computes every position of the last layer. Here a
layer attends block by block (listenwell.model.packing), the last one computes keys and values of all positions but the
rest only where an answer is read, and norms and rotations have their backward pass written out.
tests/test_qwen2_audio.py holds all of it to transformers' padded forward, for the layers of Llama, Qwen2 and
Qwen2.5-Omni, which have the same names inside:
    h = h + o_proj(attention(rotate(q_proj(n)), rotate(k_proj(n)), v_proj(n))),    n = norm(h)
    h = h + down_proj(silu(gate_proj(m)) * up_proj(m)),                            m = norm(h)
Modules are called as modules, so that adapters' hooks and quantised weights work.

Shapes: K rows, L row length, D width, H heads, V heads of keys and values, G = H / V, C width of a head; of a block, n
clips, q queries, k keys.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from listenwell.errors import ModelError
from listenwell.model.lora import Adapter, AdapterSlots, ProjectorWeights
from listenwell.model.packing import Attending, Block, RowLayout, fill_to, lay_out_rows
from listenwell.model.prompt import Prompt

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


def run_layer(layer: Any, hidden: torch.Tensor, rotation: Rotation, attending: Attending) -> torch.Tensor:
    """One layer on all positions; hidden (K, L, D)."""
    attention = layer.self_attn
    normed = _norm(layer.input_layernorm, hidden)
    key, value = _keys_and_values(attention, normed, rotation)
    query = _rotate(attention.q_proj(normed), rotation)
    hidden = hidden + attention.o_proj(_attend(query, key, value, attending, attention))
    return hidden + _feed_forward(layer, hidden)


def run_last_layer(
    layer: Any, hidden: torch.Tensor, rotation: Rotation, layout: RowLayout, reading: AbstractContextManager[None]
) -> torch.Tensor:
    """The last layer where tokens are read, hidden (K, L, D) -> (K, R, D); keys and values come from all positions.

    reading: in this context the modules see the (K, R) positions that are read.
    """
    attention = layer.self_attn
    normed = _norm(layer.input_layernorm, hidden)
    key, value = _keys_and_values(attention, normed, rotation)
    with reading:
        cosine, sine = (take(table, layout.read) for table in rotation)
        query = _rotate(attention.q_proj(take(normed, layout.read)), (cosine, sine))
        hidden = take(hidden, layout.read)
        hidden = hidden + attention.o_proj(_attend(query, key, value, layout.read_attending, attention))
        return hidden + _feed_forward(layer, hidden)


def final_norm(language_model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The norm after the last layer."""
    return _norm(language_model.norm, hidden)


def take(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """What hidden (K, L, ...) holds at flat positions, any shape."""
    return hidden.flatten(0, 1).index_select(0, positions.flatten()).view(*positions.shape, *hidden.shape[2:])


def _keys_and_values(attention: Any, normed: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor]:
    return _rotate(attention.k_proj(normed), rotation), attention.v_proj(normed)


def _feed_forward(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    normed = _norm(layer.post_attention_layernorm, hidden)
    return layer.mlp.down_proj(layer.mlp.act_fn(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed))


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attending: Attending, attention: Any
) -> torch.Tensor:
    """From query (K, ., H C), key and value (K, L, V C) -> (K, ., H C), block by block."""
    width, scale = attention.head_dim, attention.scaling
    found = [_attend_block(query, key, value, block, width, scale) for block in attending.blocks]
    return torch.cat(found).index_select(0, attending.results).view(query.shape)


def _attend_block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: Block, width: int, scale: float
) -> torch.Tensor:
    """Results of a block's queries, (n q, H C). The G heads that share keys stand one below the other."""
    n, n_queries = block.queries.shape
    of_query = take(query, block.queries).view(n, n_queries, -1, width)
    of_key, of_value = (
        take(each, block.keys).view(n, block.keys.shape[1], -1, width).transpose(1, 2) for each in (key, value)
    )
    n_shared = of_query.shape[2] // of_key.shape[1]
    of_query = of_query.view(n, n_queries, -1, n_shared, width).permute(0, 2, 3, 1, 4).flatten(2, 3)
    if of_query.device.type == "cpu" and block.keys.shape[1] <= MOST_KEYS_IN_PRODUCTS:
        weights = (of_query * scale) @ of_key.transpose(2, 3)
        weights = weights.view(n, -1, n_shared, n_queries, block.keys.shape[1]) + block.bias[:, None, None]
        # in float32: more exact, and faster than torch's own way for bfloat16
        found = weights.softmax(-1, dtype=torch.float32).to(of_value.dtype).flatten(2, 3) @ of_value
    else:
        bias = block.bias.repeat(1, n_shared, 1).unsqueeze(1)
        found = scaled_dot_product_attention(of_query, of_key, of_value, attn_mask=bias, scale=scale)
    return found.view(n, -1, n_shared, n_queries, width).permute(0, 3, 1, 2, 4).reshape(n * n_queries, -1)


def _norm(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    return _RmsNorm.apply(hidden, norm.weight, norm.variance_epsilon)  # type: ignore[no-untyped-call]


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


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
TOWER_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
TOWER_MLP = ("fc1", "fc2")


class LanguageSide:
    """What follows the tower. projector: full name of the linear module that joins tower and language model."""

    def __init__(self, network: Any, projector: str) -> None:
        self.network = network
        self.slots = AdapterSlots(network)
        self.language_model = network.model.language_model
        self.projector_name, self.projector = projector, network.get_submodule(projector)
        require_known_layers(self.language_model)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the frozen weights."""
        return self.network.lm_head.weight.dtype

    def answer_logits(
        self,
        rows: Sequence[Sequence[torch.Tensor]],
        prompt: Prompt,
        adapters: Sequence[Adapter] = (),
        *,
        whole_vocabulary: bool = False,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Logits of the two answers, (total clips, 2) float32, column 0 SPEECH, in the order rows then clips.

        rows: K lists of tower outputs (n_tokens, W). Row k goes through adapters[k]; without adapters, the base.
        whole_vocabulary: (total clips, V) instead. recompute: keep no activations of the layers for the backward pass.
        """
        if adapters and len(adapters) != len(rows):
            raise ModelError(
                f"{len(rows)} rows were given to {len(adapters)} adapters; one row per adapter was expected."
            )
        prefix, suffix = self.embed_text(prompt.prefix_ids), self.embed_text(prompt.suffix_ids)
        projectors = [adapter.projector for adapter in adapters] if adapters else [None] * len(rows)
        segments = [
            [torch.cat([tokens, suffix]) for tokens in self.project(row, projector)]
            for row, projector in zip(rows, projectors, strict=True)
        ]
        hidden = self.run_rows(prefix, segments, adapters, recompute=recompute)
        head = self.network.lm_head.weight
        if whole_vocabulary:
            return (hidden @ head.T).float()
        # in float32, which costs nothing for two rows: bfloat16 would round a score to steps of 0.06
        return hidden.float() @ head[[prompt.speech_id, prompt.nonspeech_id]].float().T

    def run_rows(
        self,
        prefix: torch.Tensor,
        segments: Sequence[Sequence[torch.Tensor]],
        adapters: Sequence[Adapter] = (),
        *,
        n_read: Sequence[Sequence[int]] | None = None,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Run packed rows: prefix (P, D) and, per row, segments (l, D); row k through adapters[k], if any.

        Returns the last hidden states of the last n_read tokens of each segment (by default one), (total, D), in the
        order rows, segments, tokens.
        """
        lengths = [[segment.shape[0] for segment in row] for row in segments]
        layout = lay_out_rows(lengths, prefix.shape[0], prefix, n_read)
        longest = layout.position_ids.shape[1]
        hidden = torch.stack([fill_to(torch.cat([prefix, *row]), longest) for row in segments])
        rotation = rotation_of(self.language_model, hidden, layout.position_ids)
        *layers, last = self.language_model.layers

        def attached() -> AbstractContextManager[None]:
            return self.slots.attached(adapters, layout.row_lengths)

        def read_last(hidden: torch.Tensor) -> torch.Tensor:
            return run_last_layer(last, hidden, rotation, layout, self.slots.attached(adapters, layout.n_read))

        run = self._recomputed(attached) if recompute else lambda function, *inputs: function(*inputs)
        with attached():
            for layer in layers:
                hidden = run(run_layer, layer, hidden, rotation, layout.attending)
            hidden = run(read_last, hidden)
        return final_norm(self.language_model, take(hidden, layout.asked))

    def _recomputed(self, attached: Callable[[], AbstractContextManager[None]]) -> Callable[..., torch.Tensor]:
        """Run a layer so that it keeps its inputs only; the backward pass runs it again, adapters attached.

        Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174). The adapters must be attached again because the
        backward pass comes when they no longer are, and may run in another thread.
        """
        return functools.partial(
            checkpoint,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), attached()),
        )

    def embed_text(self, ids: Sequence[int]) -> torch.Tensor:
        """Embeddings of token ids, (n, D)."""
        return self.language_model.get_input_embeddings()(torch.tensor(ids, device=self.device))

    def project(self, clips: Sequence[torch.Tensor], own: ProjectorWeights | None = None) -> list[torch.Tensor]:
        """Tower outputs (n_tokens, W) -> language-model embeddings (n_tokens, D), by the base's projector or `own`."""
        tokens = torch.cat(list(clips))
        if own is None:
            projected = self.projector(tokens)
        else:
            projected = torch.nn.functional.linear(tokens.float(), own.weight, own.bias).to(self.dtype)
        return list(projected.split([clip.shape[0] for clip in clips]))

    def changes_tower(self, adapter: Adapter) -> bool:
        """True when the adapter changes the audio tower, so that the base's tower output cannot be shared."""
        return any(name.startswith("model.audio_tower.") for name in adapter.pairs)

    def own_projector(self) -> ProjectorWeights:
        """A trainable float32 copy of the base's projector."""
        linear = self.projector
        weight, bias = (t.detach().float().clone().requires_grad_() for t in (linear.weight, linear.bias))
        return ProjectorWeights(weight, bias, self.projector_name)

    def lora_targets(self, scope: str, kind: str) -> list[str]:
        """Full module names for scope "language_model", "audio_tower" or "both" and kind "attention" or
        "attention+mlp". Full names, because bare ones (q_proj, ...) also hit the other half of the model."""
        with_mlp = {"attention": False, "attention+mlp": True}[kind]
        wanted = {
            "model.language_model.": ATTENTION + (MLP if with_mlp else ()),
            "model.audio_tower.": TOWER_ATTENTION + (TOWER_MLP if with_mlp else ()),
        }
        prefixes = {
            "language_model": ["model.language_model."],
            "audio_tower": ["model.audio_tower."],
            "both": ["model.audio_tower.", "model.language_model."],
        }[scope]
        return [
            name
            for name, module in self.network.named_modules()
            if isinstance(module, torch.nn.Linear)
            for prefix in prefixes
            if name.startswith(prefix) and name.rsplit(".", 1)[-1] in wanted[prefix]
        ]
