"""Qwen2.5-Omni's thinker, for audio alone: its audio encoder in windows, those of all clips as one batch.

The encoder takes a clip in windows of 2 * n_window frames (2 s): convolutions, positions and attention stay within a
window, and what lies beyond it is zero. transformers runs the windows one after the other; `embed_audio` runs those of
all clips as one batch, the shorter ones masked. The language model's rotary positions come in three parts (time,
height, width), which are equal for text and audio, so plain positions hold. Proven equal to transformers' forward in
tests/test_equality.py. Xu et al. 2025, "Qwen2.5-Omni Technical Report", arXiv:2503.20215.

Shapes: B clips, N windows, T frames, p positions of a window, W encoder width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.model.mel import LogMel, require_tokens


class Qwen25Omni(AudioLanguageModel):
    """Over Qwen2_5OmniThinkerForConditionalGeneration."""

    network_class = Qwen2_5OmniThinkerForConditionalGeneration
    projector_name = "model.audio_tower.proj"

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Encoder output of each clip, (n_tokens, W), through `adapter` where it changes the encoder.

        It ends before the encoder's own last linear module, which is the projector here. Raises ModelError for a clip
        with no token.
        """
        require_tokens(mels)
        size = 2 * self.encoder.n_window
        windows = [
            mel.features[:, start : min(start + size, mel.n_frames)]
            for mel in mels
            for start in range(0, mel.n_frames, size)
        ]
        longest = max(window.shape[1] for window in windows)
        n_frames = torch.tensor([window.shape[1] for window in windows], device=self.device)
        features = np.stack([np.pad(window, ((0, 0), (0, longest - window.shape[1]))) for window in windows])
        known = torch.arange(longest, device=self.device) < n_frames[:, None]
        hidden = gelu(self.encoder.conv1(torch.from_numpy(features).to(self.device, self.dtype))) * known[:, None]
        hidden = gelu(self.encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.encoder.positional_embedding.positional_embedding[: hidden.shape[1]].to(self.dtype)
        known = known[:, ::2]
        mask = None if bool(known.all()) else known[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)
        with self.slots.attached([adapter] if adapter else []):
            for layer in self.encoder.layers:
                hidden = _run_layer(layer, hidden, mask)
        clips = torch.split(hidden[known], [(mel.n_frames + 1) // 2 for mel in mels])
        n_tokens = [clip.shape[0] // 2 for clip in clips]
        paired = torch.cat([clip[: 2 * n] for clip, n in zip(clips, n_tokens, strict=True)])
        return list(torch.split(self.encoder.ln_post((paired[::2] + paired[1::2]) / 2), n_tokens))


def _run_layer(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One layer of the encoder on all windows, hidden (N, p, W); mask (N, 1, p, p) is True where a key is a frame.

    transformers' layer takes the windows as one long row, where adapters' hooks expect rows.
    """
    attention, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
    query, key, value = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
    hidden = hidden + attention.out_proj(attended.transpose(1, 2).flatten(2))
    return hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))
