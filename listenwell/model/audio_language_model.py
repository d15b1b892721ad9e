"""An audio language model: a clip becomes audio tokens once, and the answer is read from a packed row of clips.

    log-mel --embed_audio--> audio tokens --answer_logits--> two logits
The two steps are apart because the audio encoder is usually frozen: its output can be computed once and used by every
adapter. A family is one file with a subclass that brings the encoder's convolutions, `convolve`; its network must hold
the halves `model.audio_tower` and `model.language_model`, an `lm_head`, and one linear projector between them.

transformers' forward makes logits of the whole vocabulary at every position; `answer_logits` multiplies the answer
positions by the rows of the two answers. tests/test_equality.py holds it to
transformers' padded forward.

Shapes: B clips, W width of the encoder, D of the language model, K rows (one adapter each), V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.checkpoint import checkpoint

from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.model.audio_layers import read_audio_layers, run_audio_layers
from listenwell.model.language_layers import norm, read_layers, rotation_of, run_last_layer, run_layer, take
from listenwell.model.lora import Adapter, Attached, ProjectorWeights
from listenwell.model.mel import HOP_LENGTH, LogMel, require_tokens
from listenwell.model.packing import MULTIPLE, lay_out_rows
from listenwell.model.prompt import Prompt, PromptConfig, build_prompt
from listenwell.model.settings import EVERY_LINEAR, HALVES, LoraConfig, kind_of, match_targets

ROW_TOKENS = 2048
"""Longest packed row that is scored: every row holds the prefix again, and is one more round of small operations."""
_ATTENTION = {
    "language_model": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "audio_tower": ("q_proj", "k_proj", "v_proj", "out_proj"),
}
_MLP = {"language_model": ("gate_proj", "up_proj", "down_proj"), "audio_tower": ("fc1", "fc2")}


@dataclass(frozen=True, slots=True)
class Convolved:
    """Clips before the encoder's layers: hidden (n, W), position after position; lengths: of each clip's segments.

    A segment attends within itself: a clip as a whole, or windows of it.
    """

    hidden: torch.Tensor
    lengths: list[list[int]]


class AudioLanguageModel(ABC):
    """A frozen network of transformers, with what training, scoring and detection ask of it.

    fingerprint: of the base (listenwell.model.base_files). mel_filters: (201, F), for processes that prepare clips
    without the model.
    """

    network_class: ClassVar[Any]
    """The class of transformers that holds the weights."""
    projector_name: ClassVar[str]
    """Full name of the linear module that joins audio encoder and language model."""

    def __init__(self, network: Any, processor: Any, fingerprint: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.processor, self.fingerprint = processor, fingerprint
        self.mel_filters = np.asarray(processor.feature_extractor.mel_filters, dtype=np.float32)
        self.encoder, self.language_model = network.model.audio_tower, network.model.language_model
        self.projector = network.get_submodule(self.projector_name)
        self.device, self.dtype = network.lm_head.weight.device, network.lm_head.weight.dtype
        self.layers = read_layers(network, "model.language_model")
        self.audio_layers = read_audio_layers(network, "model.audio_tower")

    @abstractmethod
    def convolve(self, mels: Sequence[LogMel]) -> Convolved:
        """The clips' frames through the convolutions, with positions added; none is padded to 30 s."""

    @property
    @abstractmethod
    def encoder_norm(self) -> torch.nn.Module:
        """The encoder's norm after the mean of two positions each."""

    def embed_audio(self, mels: Sequence[LogMel], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Encoder output of each clip, (n_tokens, W), through `adapter` where it changes the encoder."""
        return self.embed_rows([mels], [adapter] if adapter else [])[0]

    def embed_rows(
        self, rows: Sequence[Sequence[LogMel]], adapters: Sequence[Adapter] = ()
    ) -> list[list[torch.Tensor]]:
        """Encoder output of each clip of each row, (n_tokens, W), row k through adapters[k], if any.

        Clips of unequal length may share a row; none is padded. Raises ModelError for a clip with no token.
        """
        mels = [mel for row in rows for mel in row]
        require_tokens(mels)
        convolved = self.convolve(mels)
        clips = iter(convolved.lengths)
        lengths = [[length for _ in row for length in next(clips)] for row in rows]
        hidden = run_audio_layers(self.audio_layers, convolved.hidden, lengths, adapters)
        n_positions = [sum(clip) for clip in convolved.lengths]
        n_tokens = [n // 2 for n in n_positions]
        if any(n % 2 for n in n_positions):
            parts = torch.split(hidden, n_positions)
            hidden = torch.cat([clip[: 2 * n] for clip, n in zip(parts, n_tokens, strict=True)])
        tokens = iter(torch.split(self.encoder_norm(torch.unflatten(hidden, 0, (-1, 2)).mean(1)), n_tokens))
        return [[next(tokens) for _ in row] for row in rows]

    def prompt(self, config: PromptConfig) -> Prompt:
        """The prompt in this model's tokens."""
        return build_prompt(config, self.processor)

    def answer_logits(
        self,
        rows: Sequence[Sequence[torch.Tensor]],
        prompt: Prompt,
        adapters: Sequence[Adapter] = (),
        *,
        whole_vocabulary: bool = False,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Logits of the two answers, (total clips, 2) float32, column 0 SPEECH, in the order rows then clips.

        rows: K lists of audio tokens (n_tokens, W). Row k goes through adapters[k]; without adapters, the base.
        whole_vocabulary: (total clips, V) instead. recompute: gradient checkpointing of the language model's layers.
        """
        prefix, suffix = self.embed_text(prompt.prefix_ids), self.embed_text(prompt.suffix_ids)
        projectors = [adapter.projector for adapter in adapters] if adapters else [None] * len(rows)
        segments = [
            [torch.cat([tokens, suffix]) for tokens in self._project(row, projector)]
            for row, projector in zip(rows, projectors, strict=True)
        ]
        hidden = self.run_rows(prefix, segments, adapters, recompute=recompute)
        head = self.network.lm_head.weight
        if whole_vocabulary:
            return (hidden @ head.T).float()
        # in float32, which costs nothing for two rows: bfloat16 would round a score to steps of 0.06
        return hidden.float() @ head[[prompt.speech_id, prompt.nonspeech_id]].float().T

    def run_rows(
        self,
        prefix: torch.Tensor,
        segments: Sequence[Sequence[torch.Tensor]],
        adapters: Sequence[Adapter] = (),
        *,
        n_read: Sequence[Sequence[int]] | None = None,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Run packed rows: prefix (P, D) and, per row, segments (l, D); row k through adapters[k], if any.

        Returns the last hidden states of the last n_read tokens of each segment (by default one), (total, D), in the
        order rows, segments, tokens.
        """
        lengths = [[segment.shape[0] for segment in row] for row in segments]
        layout = lay_out_rows(lengths, prefix.shape[0], prefix, n_read, MULTIPLE)
        longest = layout.position_ids.shape[1]
        joined = [torch.cat([prefix, *row]) for row in segments]
        hidden = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - row.shape[0])) for row in joined])
        rotation = rotation_of(self.language_model, hidden, layout.position_ids)
        attached, reading = Attached(adapters, layout.row_lengths), Attached(adapters, layout.n_read)
        run = _recomputed if recompute else lambda function, *inputs: function(*inputs)
        *layers, last = self.layers
        for layer in layers:
            hidden = run(run_layer, layer, hidden, rotation, layout.attention, attached)
        hidden = run(run_last_layer, last, hidden, rotation, layout, attached, reading)
        return norm(self.language_model.norm, take(hidden, layout.read_index))

    def embed_text(self, ids: Sequence[int]) -> torch.Tensor:
        """Embeddings of token ids, (n, D)."""
        embeddings: torch.Tensor = self.language_model.get_input_embeddings()(torch.tensor(ids, device=self.device))
        return embeddings

    def _project(self, clips: Sequence[torch.Tensor], own: ProjectorWeights | None) -> list[torch.Tensor]:
        """Audio tokens (n_tokens, W) -> embeddings (n_tokens, D), by the base's projector or an adapter's own."""
        tokens = torch.cat(list(clips))
        if own is None:
            projected = self.projector(tokens)
        else:
            projected = torch.nn.functional.linear(tokens.float(), own.weight, own.bias).to(self.dtype)
        return list(projected.split([clip.shape[0] for clip in clips]))

    def own_projector(self) -> ProjectorWeights:
        """A trainable float32 copy of the base's projector."""
        linear = self.projector
        weight, bias = (t.detach().float().clone().requires_grad_() for t in (linear.weight, linear.bias))
        return ProjectorWeights(weight, bias, self.projector_name)

    def changes_encoder(self, adapter: Adapter) -> bool:
        """True when the adapter changes the audio encoder, so that the base's audio tokens cannot be shared."""
        return any(name.startswith("model.audio_tower.") for name in adapter.pairs)

    def lora_targets(self, scope: str, kind: str) -> list[str]:
        """Full names of the linear modules of a scope ("language_model", "audio_tower", "both") and kind ("attention",
        "attention+mlp"); bare names (q_proj, ...) also hit the other half of the model."""
        leaves = {
            half: _ATTENTION[half] + (_MLP[half] if kind == EVERY_LINEAR else ())
            for half in (HALVES if scope == "both" else (scope,))
        }
        return [
            name
            for name, module in self.network.named_modules()
            if isinstance(module, torch.nn.Linear)
            for half in leaves
            if name.startswith(f"model.{half}.") and name.rsplit(".", 1)[-1] in leaves[half]
        ]

    def find_targets(self, config: LoraConfig) -> list[str]:
        """Full names of the modules an adapter of this shape changes, in the network's order.

        Raises ConfigError when an expression matches none.
        """
        return match_targets(self.lora_targets(config.scope, kind_of(config)), config)

    def count_by_half(self, names: Collection[str]) -> dict[str, int]:
        """How many of the modules `names` lie in each half of the model; halves with none are left out."""
        counts = {half: sum(name.startswith(f"model.{half}.") for name in names) for half in HALVES}
        return {half: count for half, count in counts.items() if count}


def _recomputed(function: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
    """Run a layer so that it keeps its inputs only; the backward pass runs it again.

    Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174).
    """
    recomputed: torch.Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return recomputed


def embed_clips(
    model: AudioLanguageModel, mels: Sequence[LogMel], batch_seconds: float, adapter: Adapter | None = None
) -> list[torch.Tensor]:
    """Audio tokens of each clip, in order; clips of similar length share a batch of about batch_seconds."""
    order = sorted(range(len(mels)), key=lambda i: mels[i].n_frames)
    tokens: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for batch in _batches(order, [mels[i].n_frames * HOP_LENGTH / SAMPLE_RATE_HZ for i in order], batch_seconds):
            tokens.update(zip(batch, model.embed_audio([mels[i] for i in batch], adapter), strict=True))
    return [tokens[i] for i in range(len(mels))]


def answer_scores(
    model: AudioLanguageModel,
    audio: Sequence[torch.Tensor],
    prompt: Prompt,
    adapter: Adapter | None = None,
) -> NDArray[np.float64]:
    """Score of each clip, (B,): logit(SPEECH answer) - logit(NONSPEECH answer), in packed rows of up to ROW_TOKENS."""
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
