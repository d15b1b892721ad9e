"""What gives scores: the language model with each of its adapters, and the classic detectors, behind one interface.

All get the same waveforms. The language model with several prompts and adapters runs its audio encoder once per clip
and the answers once per method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from listenwell.baselines.vad import SILERO_VAD, SileroVad, WebRtcVad
from listenwell.config import Config
from listenwell.data.audio import Waveform
from listenwell.data.fetch.packages import fetch_weight_file
from listenwell.evaluate.methods import FINE_TUNED, ZERO_SHOT
from listenwell.fits.fitting import TrainedArm
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.storage.load_or_make import cache_root

LANGUAGE_MODEL_DEFAULT = 0.0
"""Both answers equally likely."""


@dataclass(frozen=True, slots=True)
class LanguageModelDetector:
    """One model; by method name its prompt and its adapter, None for the base as it is."""

    model: AudioLanguageModel
    short_clips: ShortClipConfig
    methods: dict[str, tuple[PromptConfig, Adapter | None]]
    batch_seconds: float

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,); methods that leave the audio encoder as it is share its pass."""
        mels = [extract_features(self.model.mel_filters, samples, self.short_clips) for samples in waveforms]
        frozen = embed_clips(self.model, mels, self.batch_seconds)
        scores = {}
        for name, (prompt, adapter) in self.methods.items():
            audio = frozen
            if adapter is not None and self.model.changes_encoder(adapter):
                audio = embed_clips(self.model, mels, self.batch_seconds, adapter)
            scores[name] = answer_scores(self.model, audio, self.model.prompt(prompt), adapter)
        return scores


@dataclass(frozen=True, slots=True)
class BaselineDetector:
    """One classic detector as a method of its own name."""

    baseline: SileroVad | WebRtcVad

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,)."""
        return {self.baseline.name: self.baseline.scores(waveforms)}


Detector = LanguageModelDetector | BaselineDetector
"""Gives each method it stands for one score per waveform; the higher, the more like speech."""
BASELINES: Mapping[str, Callable[[], SileroVad | WebRtcVad]] = {
    "silero": lambda: SileroVad(fetch_weight_file(SILERO_VAD, cache_root())),
    "webrtc": WebRtcVad,
}


def study_detectors(
    config: Config, model: AudioLanguageModel, arms: Sequence[TrainedArm] = ()
) -> tuple[list[Detector], dict[str, float]]:
    """The base model, the arms and the baselines, and the default thresholds of the study's main methods."""
    requested: list[tuple[str, Config, Adapter | None]] = [(ZERO_SHOT, config, None)]
    requested += [(arm.method, arm.arm.config, arm.fit.adapter) for arm in arms]
    baselines = [BASELINES[name]() for name in config.evaluation.baselines]
    defaults = {ZERO_SHOT: LANGUAGE_MODEL_DEFAULT, FINE_TUNED: LANGUAGE_MODEL_DEFAULT}
    defaults |= {baseline.name: baseline.default_threshold for baseline in baselines}
    detectors = language_model_detectors(model, requested)
    return [*detectors, *(BaselineDetector(baseline) for baseline in baselines)], defaults


def language_model_detectors(
    model: AudioLanguageModel, requested: Sequence[tuple[str, Config, Adapter | None]]
) -> list[Detector]:
    """One detector for all methods (name, config, adapter) that pad alike: the audio encoder runs once for them."""
    alike: dict[str, LanguageModelDetector] = {}
    for name, config, adapter in requested:
        new = LanguageModelDetector(model, config.short_clips, {}, config.scoring.batch_seconds)
        alike.setdefault(config.short_clips.model_dump_json(), new).methods[name] = config.prompt, adapter
    return list(alike.values())
