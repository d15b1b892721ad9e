"""Qwen2-Audio without padding to 30 s: the audio encoder on the clip's own frames.

transformers' encoder insists on 3000 mel frames (30 s), although positions count from the clip's start and padding is
masked in every layer; so `embed_audio` runs the same layers on the clip's own frames, with a margin of silence for the
convolutions. Proven equal to the padded reference in tests/test_equality.py. Chu et al. 2024, "Qwen2-Audio Technical
Report", arXiv:2407.10759.

Shapes: B clips, T frames, p = ceil(T / 2) positions, W encoder width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import gelu
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.model.mel import LogMel, require_tokens


class Qwen2Audio(AudioLanguageModel):
    """Over Qwen2AudioForConditionalGeneration."""

    network_class = Qwen2AudioForConditionalGeneration
    projector_name = "model.multi_modal_projector.linear"

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Encoder output of each clip, (n_tokens, W), through `adapter` where it changes the encoder.

        Clips of unequal length share a batch: the shorter are padded with their own silence up to the longest
        (never to 30 s) and masked, as the padded reference masks them. Raises ModelError for a clip with no token.
        """
        require_tokens(mels)
        n_positions = [(mel.n_frames + 1) // 2 for mel in mels]
        longest = max(n_positions)
        features = self._stack_features(mels, n_frames=2 * longest + 2)
        hidden = gelu(self.encoder.conv2(gelu(self.encoder.conv1(features))))[..., :longest].transpose(1, 2)
        hidden = hidden + self.encoder.embed_positions.weight[:longest]
        mask = None  # where clips differ in length, True where a key belongs to the clip
        if min(n_positions) < longest:
            is_clip = torch.arange(longest, device=self.device) < torch.tensor(n_positions, device=self.device)[:, None]
            mask = is_clip[:, None, None, :].expand(-1, 1, longest, -1)
        with self.slots.attached([adapter] if adapter else []):
            for layer in self.encoder.layers:
                hidden = layer(hidden, mask)
        hidden = self.encoder.layer_norm(self.encoder.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2))
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
