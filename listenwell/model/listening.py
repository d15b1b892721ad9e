"""From waveforms to what the model hears and answers: the one road of training, scoring and detection.

    samples -> lengthen (short-clip policy) -> log-mel -> masks (training only) -> audio tokens -> answer score
Shapes: B clips; waveforms mono float32 (n_samples,), 16 kHz; audio tokens (n_tokens, W).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.augment.spec_augment import Masks, apply_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter
from listenwell.model.mel import HOP_LENGTH, LogMel
from listenwell.model.prompt import Prompt
from listenwell.model.short_clips import ShortClipConfig, first_sample, lengthen

ROW_TOKENS = 512  # attention over a packed row is dense: longer rows cost more than they save


def hear(
    model: AudioLanguageModel, samples: Waveform, short_clips: ShortClipConfig, masks: Masks | None = None
) -> LogMel:
    """The spectrogram the model gets of a clip; masks lie on the clip's own frames, not on what lengthened it."""
    mel = model.log_mel(lengthen(samples, short_clips))
    if masks is None:
        return mel
    first_frame = first_sample(samples.size, short_clips) // HOP_LENGTH
    fill = mel.floor if masks.fill == "floor" else float(mel.features[:, : mel.n_frames].mean())
    return LogMel(apply_masks(mel.features, masks, first_frame, fill), mel.n_frames)


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
