"""Qwen2-Audio without padding to 30 s: the audio encoder on the clip's own frames.

transformers' encoder insists on 3000 mel frames (30 s), although positions count from the clip's start and padding is
masked in every layer; so the same layers (listenwell.model.audio_layers) run on the clip's own frames here, with a
margin of silence for the convolutions. Proven equal to the padded reference in tests/test_equality.py. Chu et al. 2024,
"Qwen2-Audio Technical Report", arXiv:2407.10759.

Shapes: B clips, T frames, p = ceil(T / 2) positions, W encoder width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import gelu
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.model.audio_language_model import AudioLanguageModel, Convolved
from listenwell.model.mel import LogMel


class Qwen2Audio(AudioLanguageModel):
    """Over Qwen2AudioForConditionalGeneration."""

    network_class = Qwen2AudioForConditionalGeneration
    projector_name = "model.multi_modal_projector.linear"

    def convolve(self, mels: Sequence[LogMel]) -> Convolved:
        """The clips' frames through both convolutions, each clip one segment.

        Clips of unequal length share a batch: the shorter are padded with their own silence up to the longest (never to
        30 s), and what comes of the padding is dropped.
        """
        n_positions = [(mel.n_frames + 1) // 2 for mel in mels]
        longest = max(n_positions)
        features = self._stack_features(mels, n_frames=2 * longest + 2)
        hidden = gelu(self.encoder.conv2(gelu(self.encoder.conv1(features))))[..., :longest].transpose(1, 2)
        hidden = hidden + self.encoder.embed_positions.weight[:longest]
        hidden = torch.cat([clip[:n] for clip, n in zip(hidden, n_positions, strict=True)])
        return Convolved(hidden, [[n] for n in n_positions])

    @property
    def encoder_norm(self) -> torch.nn.Module:
        """The encoder's norm after the mean of two positions each."""
        norm: torch.nn.Module = self.encoder.layer_norm
        return norm

    def _stack_features(self, mels: Sequence[LogMel], n_frames: int) -> torch.Tensor:
        """(B, F, n_frames): frames after a clip's margin hold the clip's own silence."""
        n_mels = mels[0].features.shape[0]
        stacked = np.empty((len(mels), n_mels, n_frames), dtype=np.float32)
        for row, mel in zip(stacked, mels, strict=True):
            n_known = min(mel.features.shape[1], n_frames)
            row[:, :n_known] = mel.features[:, :n_known]
            row[:, n_known:] = mel.floor
        return torch.from_numpy(stacked).to(self.device, self.dtype)
