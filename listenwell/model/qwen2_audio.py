"""Qwen2-Audio without padding: the tower on valid frames, the language model on packed rows, two head rows.

transformers' Qwen2AudioForConditionalGeneration holds the weights and the layers; only the road through them is
shorter. Its encoder insists on 3000 mel frames (30 s), although positions count from the clip's start and padding
is masked in every layer; so `embed_audio` runs the same layers on the clip's own frames, with a margin of
silence for the convolutions. The language model is `LanguageSide`'s. Both are proven equal to the padded reference in
tests/test_qwen2_audio.py. Chu et al. 2024, "Qwen2-Audio Technical Report", arXiv:2407.10759.

Shapes: B clips, T frames, p = ceil(T / 2) positions, W tower width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import gelu
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.data.audio import Waveform
from listenwell.model.language_side import LanguageSide
from listenwell.model.lora import Adapter
from listenwell.model.mel import LogMel, log_mel, require_tokens
from listenwell.model.prompt import Prompt, PromptConfig, build_prompt

PROJECTOR = "model.multi_modal_projector.linear"
"""Full name of the linear module that joins tower and language model."""


class Qwen2Audio:
    """An AudioLanguageModel over Qwen2AudioForConditionalGeneration; the base weights are frozen."""

    def __init__(self, network: Qwen2AudioForConditionalGeneration, processor: Any, fingerprint: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.processor = processor
        self.fingerprint = fingerprint
        self.mel_filters = np.asarray(processor.feature_extractor.mel_filters, dtype=np.float32)
        self.tower = network.model.audio_tower
        self.projector = network.model.multi_modal_projector
        self.language_model = network.model.language_model
        side = LanguageSide(network, PROJECTOR)
        self.slots, self.device, self.dtype = side.slots, side.device, side.dtype
        self.answer_logits, self.run_rows, self.embed_text = side.answer_logits, side.run_rows, side.embed_text
        self.own_projector, self.lora_targets, self.changes_tower = (
            side.own_projector,
            side.lora_targets,
            side.changes_tower,
        )

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
        require_tokens(mels)
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
