"""What gives scores: the language model with each of its adapters, and the classic detectors, behind one interface.

All get the same waveforms. The language model with several prompts and adapters runs its audio encoder once per clip
and the answers once per method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.baselines.frame_networks import Fsmn, MarbleNet
from listenwell.baselines.vad import SileroVad, WebRtcVad
from listenwell.config import Config
from listenwell.data.audio import Waveform
from listenwell.data.fetch.packages import fetch_weight_file
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.methods import FINE_TUNED, ZERO_SHOT
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.fitting import TrainedArm
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.storage.load_or_make import cache_root

LANGUAGE_MODEL_DEFAULT = 0.0
"""Both answers equally likely."""
FORM = ": "
"""Between a baseline's name and its form."""
AT_DEFAULT = "-default"
"""After the name of a baseline: in the form that suits its default threshold."""


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
        scores, frozen = {}, list[torch.Tensor]()
        for name, (prompt, adapter) in self.methods.items():
            if adapter is not None and self.model.changes_encoder(adapter):
                audio = embed_clips(self.model, mels, self.batch_seconds, adapter)
            else:
                audio = frozen = frozen or embed_clips(self.model, mels, self.batch_seconds)
            scores[name] = answer_scores(self.model, audio, self.model.prompt(prompt), adapter)
        return scores


Baseline = SileroVad | Fsmn | MarbleNet | WebRtcVad
BASELINES: Mapping[str, type[Baseline]] = {each.name: each for each in (SileroVad, Fsmn, MarbleNet, WebRtcVad)}


@dataclass(frozen=True, slots=True)
class BaselineDetector:
    """One classic detector in some of its forms, each as a method of its own."""

    baseline: Baseline
    forms: Sequence[str]

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Method name -> scores (B,)."""
        scores = self.baseline.scores(waveforms, self.forms)
        return {f"{self.baseline.name}{FORM}{form}": of_form for form, of_form in scores.items()}


Forms = Mapping[str, str]
"""Baseline, with and without AT_DEFAULT -> its form."""
Detector = LanguageModelDetector | BaselineDetector
"""Gives each method it stands for one score per waveform; the higher, the more like speech."""


def default_thresholds(config: Config) -> dict[str, float]:
    """The thresholds that the main methods are published with."""
    language_model = dict.fromkeys((ZERO_SHOT, FINE_TUNED), LANGUAGE_MODEL_DEFAULT)
    return language_model | {name: BASELINES[name].default_threshold for name in config.evaluation.baselines}


def study_detectors(
    config: Config, model: AudioLanguageModel, arms: Sequence[TrainedArm] = (), forms: Forms | None = None
) -> list[Detector]:
    """The base model, the arms and the baselines; forms: those of the baselines, None for all there are."""
    requested: list[tuple[str, Config, Adapter | None]] = [(ZERO_SHOT, config, None)]
    requested += [(arm.method, arm.arm.config, arm.fit.adapter) for arm in arms]
    baselines = [_new_baseline(name) for name in config.evaluation.baselines]
    return [
        *language_model_detectors(model, requested),
        *(BaselineDetector(each, _forms_of(each.name, forms) or each.forms) for each in baselines),
    ]


def _forms_of(name: str, forms: Forms | None) -> list[str]:
    return [] if forms is None else list(dict.fromkeys(forms[key] for key in (name, name + AT_DEFAULT)))


def _new_baseline(name: str) -> Baseline:
    baseline = BASELINES[name]
    return baseline(*(fetch_weight_file(part, cache_root()) for part in baseline.parts))


def choose_forms(scores: Mapping[str, ScoreTable]) -> dict[str, str]:
    """Return the form of every baseline with the highest balanced accuracy on these scores, which are dev's.

    Under its name the form at its best threshold, under its name and AT_DEFAULT the one at its default; of equally good
    ones the first.
    """
    forms: dict[str, str] = {}
    best: dict[str, float] = {}
    for method, table in scores.items():
        name, _, form = method.partition(FORM)
        if form:
            says_speech = decide(table.score, BASELINES[name].default_threshold)
            reached = choose_threshold(table).dev_value, balanced_accuracy(says_speech, table.is_speech)
            for key, value in zip((name, name + AT_DEFAULT), reached, strict=True):
                if key not in best or value > best[key]:
                    forms[key], best[key] = form, value
    return forms


def in_forms(scores: Mapping[str, ScoreTable], forms: Forms) -> dict[str, ScoreTable]:
    """The scores with every baseline in its forms alone, under their keys."""
    others = {method: table for method, table in scores.items() if FORM not in method}
    return others | {key: scores[key.removesuffix(AT_DEFAULT) + FORM + form] for key, form in forms.items()}


def language_model_detectors(
    model: AudioLanguageModel, requested: Sequence[tuple[str, Config, Adapter | None]]
) -> list[Detector]:
    """One detector for all methods (name, config, adapter) that pad alike: the audio encoder runs once for them."""
    alike: dict[str, LanguageModelDetector] = {}
    for name, config, adapter in requested:
        new = LanguageModelDetector(model, config.short_clips, {}, config.scoring.batch_seconds)
        alike.setdefault(config.short_clips.model_dump_json(), new).methods[name] = config.prompt, adapter
    return list(alike.values())
