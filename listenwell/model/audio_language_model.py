"""The interface every audio language model offers to training, scoring and detection.

A clip becomes audio tokens once (`embed_audio`), and the answer is read from a packed row of clips
(`answer_logits`). The two are apart because the tower is usually frozen: its output can be computed once and
used by every adapter. A new model family joins as one file that implements this Protocol.

Shapes: B clips, K rows (one adapter each), D width of the language model, W width of the tower.

From the spectrograms that `listenwell.model.mel` makes to what the model answers.

    log-mel -> audio tokens -> answer score
Shapes: B clips; audio tokens (n_tokens, W).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.model.lora import Adapter, ProjectorWeights
from listenwell.model.mel import HOP_LENGTH, LogMel
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


ROW_TOKENS = 512  # attention over a packed row is dense: longer rows cost more than they save


def embed_clips(
    model: AudioLanguageModel, mels: Sequence[LogMel], batch_seconds: float, adapter: Adapter | None = None
) -> list[torch.Tensor]:
    """Audio tokens of each clip, in order; clips of similar length share a tower batch of about batch_seconds."""
    order = sorted(range(len(mels)), key=lambda i: mels[i].n_frames)
    tokens: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for batch in _batches(order, [mels[i].n_frames * HOP_LENGTH / SAMPLE_RATE_HZ for i in order], batch_seconds):
            tokens.update(zip(batch, model.embed_audio([mels[i] for i in batch], adapter), strict=True))
    return [tokens[i] for i in range(len(mels))]


def answer_scores(
    model: AudioLanguageModel, audio: Sequence[torch.Tensor], prompt: Prompt, adapter: Adapter | None = None
) -> NDArray[np.float64]:
    """Score of each clip, (B,): logit(SPEECH answer) - logit(NONSPEECH answer)."""
    sizes = [clip.shape[0] + len(prompt.suffix_ids) for clip in audio]
    scores = []
    with torch.no_grad():
        for row in _batches(range(len(audio)), sizes, ROW_TOKENS):
            logits = model.answer_logits([[audio[i] for i in row]], prompt, [adapter] if adapter else [])
            scores.append((logits[:, 0] - logits[:, 1]).double().cpu().numpy())
    return np.concatenate(scores) if scores else np.empty(0)


def _batches(items: Sequence[int], sizes: Sequence[float], largest: float) -> Iterator[list[int]]:
    """Cut `items` into consecutive batches whose sizes sum to at most `largest` (one item may exceed it alone)."""
    batch: list[int] = []
    filled = 0.0
    for item, size in zip(items, sizes, strict=True):
        if batch and filled + size > largest:
            yield batch
            batch, filled = [], 0.0
        batch.append(item)
        filled += size
    if batch:
        yield batch
