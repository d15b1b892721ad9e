"""The language model's half of a model, the same for every family: packed rows, adapters, two answer rows.

transformers' forward makes logits of the whole vocabulary at every position; `answer_logits` multiplies the answer
positions by the rows of the two answers. A family whose network holds the halves `model.audio_tower` and
`model.language_model`, an `lm_head`, and one linear projector between them gets all of this from here, and brings its
tower itself. tests/test_qwen2_audio.py and tests/test_qwen2_5_omni.py hold it to transformers' padded forward.

Shapes: B clips, W tower width, D language-model width, K rows, L row length.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from listenwell.errors import ModelError
from listenwell.model.language_layers import (
    final_norm,
    require_known_layers,
    rotation_of,
    run_last_layer,
    run_layer,
    take,
)
from listenwell.model.lora import Adapter, AdapterSlots, ProjectorWeights
from listenwell.model.packing import fill_to, lay_out_rows
from listenwell.model.prompt import Prompt

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
