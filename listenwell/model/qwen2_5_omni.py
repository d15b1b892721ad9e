"""Qwen2.5-Omni's thinker, for audio alone: the tower in windows, the language model on packed rows, two head rows.

transformers' Qwen2_5OmniThinkerForConditionalGeneration holds the weights. Its tower hears a clip in windows of
2 * n_window frames (2 s): convolutions, positions and attention stay within a window, and what lies beyond it is zero.
transformers runs the windows one after the other; `embed_audio` runs those of all clips as one batch, the shorter ones
masked. The language model is `LanguageSide`'s: its rotary positions come in three parts (time, height, width), which
are equal for text and audio, so plain positions hold. Proven equal to transformers' forward in
tests/test_qwen2_5_omni.py. Xu et al. 2025, "Qwen2.5-Omni Technical Report", arXiv:2503.20215.

Shapes: B clips, N windows, T frames, p positions of a window, W tower width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from listenwell.data.audio import Waveform
from listenwell.model.language_side import LanguageSide
from listenwell.model.lora import Adapter
from listenwell.model.mel import LogMel, log_mel, require_tokens
from listenwell.model.prompt import Prompt, PromptConfig, build_prompt

PROJECTOR = "model.audio_tower.proj"
"""Full name of the linear module that joins tower and language model."""


class Qwen25Omni:
    """An AudioLanguageModel over Qwen2_5OmniThinkerForConditionalGeneration; the base weights are frozen."""

    def __init__(self, network: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, fingerprint: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.processor = processor
        self.fingerprint = fingerprint
        self.mel_filters = np.asarray(processor.feature_extractor.mel_filters, dtype=np.float32)
        self.tower = network.model.audio_tower
        side = LanguageSide(network, PROJECTOR)
        self.slots, self.device, self.dtype = side.slots, side.device, side.dtype
        self.answer_logits, self.own_projector = side.answer_logits, side.own_projector
        self.lora_targets, self.changes_tower = side.lora_targets, side.changes_tower

    def log_mel(self, samples: Waveform) -> LogMel:
        """Spectrogram of one waveform (n_samples,) with this model's mel filters."""
        return log_mel(samples, self.mel_filters)

    def prompt(self, config: PromptConfig) -> Prompt:
        """The prompt in this model's tokens."""
        return build_prompt(config, self.processor)

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Tower output of each clip, a list of B tensors (n_tokens, W), through `adapter` where it changes the tower.

        It ends before the tower's own last linear module, which is the projector here. Raises ModelError for a clip
        with no token.
        """
        require_tokens(mels)
        windows = [window for mel in mels for window in self._windows(mel)]
        longest = max(window.shape[1] for window in windows)
        n_frames = torch.tensor([window.shape[1] for window in windows], device=self.device)
        features = np.stack([np.pad(window, ((0, 0), (0, longest - window.shape[1]))) for window in windows])
        known = torch.arange(longest, device=self.device) < n_frames[:, None]
        hidden = gelu(self.tower.conv1(torch.from_numpy(features).to(self.device, self.dtype))) * known[:, None]
        hidden = gelu(self.tower.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.tower.positional_embedding.positional_embedding[: hidden.shape[1]].to(self.dtype)
        known = known[:, ::2]
        mask = None if bool(known.all()) else known[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)
        with self.slots.attached([adapter] if adapter else []):
            for layer in self.tower.layers:
                hidden = _run_layer(layer, hidden, mask)
        clips = torch.split(hidden[known], [(mel.n_frames + 1) // 2 for mel in mels])
        n_tokens = [clip.shape[0] // 2 for clip in clips]
        paired = torch.cat([clip[: 2 * n] for clip, n in zip(clips, n_tokens, strict=True)])
        return list(torch.split(self.tower.ln_post((paired[::2] + paired[1::2]) / 2), n_tokens))

    def _windows(self, mel: LogMel) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """The clip's own frames (F, T), cut into the tower's windows; the last one may be shorter."""
        size = 2 * self.tower.n_window
        own = mel.features[:, : mel.n_frames]
        return [own[:, start : start + size] for start in range(0, mel.n_frames, size)]


def _run_layer(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One layer of the tower on all windows, hidden (N, p, W); mask (N, 1, p, p) is True where a key is a frame.

    transformers' layer takes the windows as one long row, where adapters' hooks expect rows.
    """
    attention, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
    query, key, value = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    found = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
    hidden = hidden + attention.out_proj(found.transpose(1, 2).flatten(2))
    return hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))
