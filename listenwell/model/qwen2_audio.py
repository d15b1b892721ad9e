"""Qwen2-Audio without padding: the tower on valid frames, the language model on packed rows, two head rows.

transformers' Qwen2AudioForConditionalGeneration holds the weights and the layers; only the road through them is
shorter. Its encoder insists on 3000 mel frames (30 s), although positions count from the clip's start and padding
is masked in every layer; so `embed_audio` runs the same layers on the clip's own frames, with a margin of
silence for the convolutions. Its forward makes logits of the whole vocabulary at every position; `answer_logits`
multiplies the answer positions by the rows of the two answers. Both are proven equal to the padded reference in
tests/test_qwen2_audio.py. Chu et al. 2024, "Qwen2-Audio Technical Report", arXiv:2407.10759.

Shapes: B clips, T frames, p = ceil(T / 2) positions, W tower width, D language-model width, K rows, L row length.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.data.audio import Waveform
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
from listenwell.model.mel import LogMel, log_mel, n_audio_tokens
from listenwell.model.packing import fill_to, lay_out_rows
from listenwell.model.prompt import Prompt, PromptConfig, build_prompt

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
TOWER_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
TOWER_MLP = ("fc1", "fc2")


class Qwen2Audio:
    """An AudioLanguageModel over Qwen2AudioForConditionalGeneration; the base weights are frozen."""

    def __init__(self, network: Qwen2AudioForConditionalGeneration, processor: Any, fingerprint: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.processor = processor
        self.fingerprint = fingerprint
        self.slots = AdapterSlots(network)
        self.tower = network.model.audio_tower
        self.projector = network.model.multi_modal_projector
        self.language_model = network.model.language_model
        require_known_layers(self.language_model)
        self.mel_filters = np.asarray(processor.feature_extractor.mel_filters, dtype=np.float32)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the frozen weights."""
        return self.network.lm_head.weight.dtype

    def log_mel(self, samples: Waveform) -> LogMel:
        """Spectrogram of one waveform (n_samples,) with this model's mel filters."""
        return log_mel(samples, self.mel_filters)

    def prompt(self, config: PromptConfig) -> Prompt:
        """The prompt in this model's tokens."""
        return build_prompt(config, self.processor)

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Tower output of each clip, a list of B tensors (n_tokens, W), through `adapter` where it changes the tower.

        Clips of unequal length share a batch: the shorter are filled with their own silence up to the longest
        (never to 30 s) and masked, as the padded reference masks them. Raises ModelError for a clip with no token.
        """
        for mel in mels:
            if n_audio_tokens(mel.n_frames) == 0:
                raise ModelError(
                    f"a clip of {mel.n_frames} frames ({mel.n_frames * 10} ms) gives no audio token, the model would "
                    "hear nothing; lengthen it first (short_clips.minimum_s of at least 0.04)."
                )
        n_positions = [(mel.n_frames + 1) // 2 for mel in mels]
        longest = max(n_positions)
        features = self._stack_features(mels, n_frames=2 * longest + 2)
        hidden = gelu(self.tower.conv2(gelu(self.tower.conv1(features))))[..., :longest].transpose(1, 2)
        hidden = hidden + self.tower.embed_positions.weight[:longest]
        mask = self._key_mask(n_positions, longest)
        with self.slots.attached([adapter] if adapter else []):
            for layer in self.tower.layers:
                hidden = layer(hidden, mask)
        hidden = self.tower.layer_norm(self.tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2))
        return [clip[: n // 2] for clip, n in zip(hidden, n_positions, strict=True)]

    def _stack_features(self, mels: Sequence[LogMel], n_frames: int) -> torch.Tensor:
        """(B, F, n_frames): frames after a clip's margin hold the clip's own silence."""
        n_mels = mels[0].features.shape[0]
        stacked = np.empty((len(mels), n_mels, n_frames), dtype=np.float32)
        for row, mel in zip(stacked, mels, strict=True):
            n_known = min(mel.features.shape[1], n_frames)
            row[:, :n_known] = mel.features[:, :n_known]
            row[:, n_known:] = mel.floor
        return torch.from_numpy(stacked).to(self.device, self.dtype)

    def _key_mask(self, n_positions: Sequence[int], longest: int) -> torch.Tensor | None:
        """(B, 1, longest, longest) bool, True where a key belongs to the clip; None when all are of one length."""
        if min(n_positions) == longest:
            return None
        lengths = torch.tensor(n_positions, device=self.device)
        keys = torch.arange(longest, device=self.device) < lengths[:, None]
        return keys[:, None, None, :].expand(-1, 1, longest, -1)

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
        linear = self.projector.linear
        weight, bias = (t.detach().float().clone().requires_grad_() for t in (linear.weight, linear.bias))
        return ProjectorWeights(weight, bias)

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
