"""The interface every audio language model offers to training, scoring and detection.

A clip becomes audio tokens once (`embed_audio`), and the answer is read from a packed row of clips
(`answer_logits`). The two are apart because the tower is usually frozen: its output can be computed once and
used by every adapter. A new model family joins as one file that implements this Protocol.

Shapes: B clips, K rows (one adapter each), D width of the language model, W width of the tower.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.model.lora import Adapter, ProjectorWeights
from listenwell.model.mel import LogMel
from listenwell.model.prompt import Prompt, PromptConfig


class AudioLanguageModel(Protocol):
    """What the rest of listenwell knows of a model."""

    network: Any
    """The frozen modules of transformers, a PreTrainedModel."""

    processor: Any
    fingerprint: str
    mel_filters: NDArray[np.float32]
    """Shape (201, F); what `log_mel` uses, for processes that prepare clips without the model."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the frozen weights."""

    def log_mel(self, samples: Any) -> LogMel:
        """Spectrogram of one waveform (n_samples,) with this model's mel filters."""

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Tower output of each clip, (n_tokens, W), through `adapter` where it changes the tower; no clip is padded
        to 30 s."""

    def changes_tower(self, adapter: Adapter) -> bool:
        """True when the adapter changes the audio tower, so that the base's tower output cannot be shared."""

    def prompt(self, config: PromptConfig) -> Prompt:
        """The prompt in this model's tokens."""

    def answer_logits(
        self,
        rows: Sequence[Sequence[torch.Tensor]],
        prompt: Prompt,
        adapters: Sequence[Adapter] = (),
        *,
        whole_vocabulary: bool = False,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Logits of the two answers, (total clips, 2), column 0 SPEECH; row k goes through adapters[k].

        whole_vocabulary: (total clips, V) instead. recompute: gradient checkpointing of the language model's layers.
        """

    def own_projector(self) -> ProjectorWeights:
        """A trainable float32 copy of the base's projector."""

    def lora_targets(self, scope: str, kind: str) -> list[str]:
        """Full names of the linear modules an adapter of this scope and kind attaches to."""
