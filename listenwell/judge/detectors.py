"""What gives scores: the language model with each of its adapters, and the classic detectors, behind one interface.

All hear the same waveforms. The language model with several adapters runs its tower once per clip and the answers
once per adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from listenwell.config import Config
from listenwell.data.audio import Waveform
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig

ZERO_SHOT, FINE_TUNED = "zero-shot", "fine-tuned"


class Detector(Protocol):
    """Gives each method it stands for one score per waveform; the higher, the more like speech."""

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,) of B waveforms (n_samples,)."""


class Baseline(Protocol):
    """A classic detector of listenwell.baselines."""

    name: str
    default_threshold: float

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Scores (B,) of B waveforms (n_samples,)."""


@dataclass(frozen=True, slots=True)
class LanguageModelDetector:
    """One model, several adapters by method name; None is the base as it is."""

    model: AudioLanguageModel
    prompt: PromptConfig
    short_clips: ShortClipConfig
    adapters: Mapping[str, Adapter | None]
    batch_seconds: float

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,)."""
        mels = [extract_features(self.model.mel_filters, samples, self.short_clips) for samples in waveforms]
        prompt = self.model.prompt(self.prompt)
        frozen = embed_clips(self.model, mels, self.batch_seconds)
        scores = {}
        for name, adapter in self.adapters.items():
            audio = frozen
            if adapter is not None and self.model.changes_encoder(adapter):
                audio = embed_clips(self.model, mels, self.batch_seconds, adapter)
            scores[name] = answer_scores(self.model, audio, prompt, adapter)
        return scores


def language_model_detectors(
    model: AudioLanguageModel, asked: Sequence[tuple[str, Config, Adapter | None]]
) -> list[Detector]:
    """One detector for all methods (name, config, adapter) that are asked alike: its tower runs once for them."""
    alike: dict[tuple[str, str], list[tuple[str, Config, Adapter | None]]] = {}
    for name, config, adapter in asked:
        key = (config.prompt.model_dump_json(), config.short_clips.model_dump_json())
        alike.setdefault(key, []).append((name, config, adapter))
    return [
        LanguageModelDetector(
            model,
            entries[0][1].prompt,
            entries[0][1].short_clips,
            {name: adapter for name, _, adapter in entries},
            entries[0][1].scoring.batch_seconds,
        )
        for entries in alike.values()
    ]


@dataclass(frozen=True, slots=True)
class BaselineDetector:
    """One classic detector as a method of its own name."""

    baseline: Baseline

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,)."""
        return {self.baseline.name: self.baseline.scores(waveforms)}
