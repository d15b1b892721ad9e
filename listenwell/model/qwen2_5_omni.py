"""Qwen2.5-Omni's thinker, for audio alone: its audio encoder in windows, those of all clips as one batch.

The encoder takes a clip in windows of 2 * n_window frames (2 s): convolutions, positions and attention stay within a
window, and what lies beyond it is zero. transformers runs the windows one after the other; here those of all clips are
one batch in the convolutions, and segments of one row in the layers (listenwell.model.audio_layers). The language
model's rotary positions come in three parts (time, height, width), which are equal for text and audio, so plain
positions hold. Proven equal to transformers' forward in tests/test_equality.py. Xu et al. 2025, "Qwen2.5-Omni Technical
Report", arXiv:2503.20215.

Shapes: B clips, N windows, T frames, p positions of a window, W encoder width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import gelu
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from listenwell.model.audio_language_model import AudioLanguageModel, Convolved
from listenwell.model.mel import LogMel


class Qwen25Omni(AudioLanguageModel):
    """Over Qwen2_5OmniThinkerForConditionalGeneration."""

    network_class = Qwen2_5OmniThinkerForConditionalGeneration
    projector_name = "model.audio_tower.proj"

    def convolve(self, mels: Sequence[LogMel]) -> Convolved:
        """The clips' frames through both convolutions, each window a segment."""
        size = 2 * self.encoder.n_window
        windows = [
            [mel.features[:, start : min(start + size, mel.n_frames)] for start in range(0, mel.n_frames, size)]
            for mel in mels
        ]
        longest = max(window.shape[1] for clip in windows for window in clip)
        n_frames = torch.tensor([window.shape[1] for clip in windows for window in clip], device=self.device)
        features = np.stack(
            [np.pad(window, ((0, 0), (0, longest - window.shape[1]))) for clip in windows for window in clip]
        )
        known = torch.arange(longest, device=self.device) < n_frames[:, None]
        hidden = gelu(self.encoder.conv1(torch.from_numpy(features).to(self.device, self.dtype))) * known[:, None]
        hidden = gelu(self.encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.encoder.positional_embedding.positional_embedding[: hidden.shape[1]].to(self.dtype)
        return Convolved(hidden[known[:, ::2]], [[(window.shape[1] + 1) // 2 for window in clip] for clip in windows])

    @property
    def encoder_norm(self) -> torch.nn.Module:
        """The encoder's norm after the mean of two positions each; its last linear module is the projector here."""
        norm: torch.nn.Module = self.encoder.ln_post
        return norm
