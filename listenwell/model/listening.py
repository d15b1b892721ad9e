"""From the spectrograms that `listenwell.model.hearing` makes to what the model answers.

    log-mel -> audio tokens -> answer score
Shapes: B clips; audio tokens (n_tokens, W).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.model.mel import HOP_LENGTH, LogMel
from listenwell.model.prompt import Prompt

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
