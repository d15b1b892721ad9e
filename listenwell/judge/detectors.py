"""What gives scores: the language model with each of its adapters, and the classic detectors, behind one interface.

A method is what a score table is of; detectors compute the scores of several. All get the same waveforms. The language
model with several prompts and adapters runs its audio encoder once per clip and the answers once per method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from listenwell.fits.fitting import FinishedFit, TrainedArm
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.loading import resolve_dtype
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import identity

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


@dataclass(frozen=True, slots=True)
class LanguageModelMethod:
    """The language model asked as a config says, through an adapter, None for the base as it is.

    made_from: what decides its scores besides the clips, as JSON values.
    """

    name: str
    config: Config
    adapter: Adapter | None
    made_from: Mapping[str, Any]

    def choose(self, scores: Mapping[str, ScoreTable]) -> tuple[str, ScoreTable]:
        """Its one form, which has no name, and its table."""
        return "", scores[self.name]


@dataclass(frozen=True, slots=True)
class BaselineMethod:
    """A baseline under its name, with or without AT_DEFAULT; where it has several forms, the scores choose one."""

    name: str
    forms: Sequence[str]

    @property
    def baseline(self) -> str:
        """The name of the baseline itself."""
        return self.name.removesuffix(AT_DEFAULT)

    @property
    def made_from(self) -> dict[str, Any]:
        """What decides its scores besides the clips, as JSON values."""
        weights = [part.member_sha256 for part in BASELINES[self.baseline].parts]
        return {"baseline": self.baseline, "weights": weights, "forms": list(self.forms)}

    def choose(self, scores: Mapping[str, ScoreTable]) -> tuple[str, ScoreTable]:
        """The form with the highest balanced accuracy on these scores, of equally good ones the first, and its table:
        at the form's best threshold, with AT_DEFAULT at its default one."""
        tables = {form: scores[self.baseline + FORM + form] for form in self.forms}
        form = self.forms[0] if len(self.forms) == 1 else max(self.forms, key=lambda each: self._reached(tables[each]))
        return form, tables[form]

    def _reached(self, table: ScoreTable) -> float:
        if self.name == self.baseline:
            return choose_threshold(table).dev_value
        says_speech = decide(table.score, BASELINES[self.baseline].default_threshold)
        return balanced_accuracy(says_speech, table.is_speech)


Method = LanguageModelMethod | BaselineMethod


def study_methods(
    config: Config, model: AudioLanguageModel, arms: Sequence[TrainedArm] = (), forms: Forms | None = None
) -> list[Method]:
    """The base model, the arms and the baselines; forms: those of the baselines, None where the scores choose them."""
    asked = config.model_dump(mode="json", include={"prompt", "short_clips"})
    base = identity(base=model.fingerprint, dtype=resolve_dtype(config.model), **asked)
    return [
        LanguageModelMethod(ZERO_SHOT, config, None, {"base": base}),
        *(fit_method(arm.method, arm.arm.config, arm.fit) for arm in arms),
        *(
            BaselineMethod(key, BASELINES[name].forms if forms is None else (forms[key],))
            for name in config.evaluation.baselines
            for key in (name, name + AT_DEFAULT)
        ),
    ]


def fit_method(name: str, config: Config, fit: FinishedFit) -> LanguageModelMethod:
    """The language model through the adapter of a fit, whose identity tells how it is asked."""
    return LanguageModelMethod(name, config, fit.adapter, {"fit": fit.record["identity"]})


def detectors_of(model: AudioLanguageModel, methods: Sequence[Method]) -> list[Detector]:
    """What computes the scores of these methods, each baseline in all forms that one of them asks for."""
    asked = [(m.name, m.config, m.adapter) for m in methods if isinstance(m, LanguageModelMethod)]
    forms: dict[str, dict[str, None]] = {}
    for method in methods:
        if isinstance(method, BaselineMethod):
            forms.setdefault(method.baseline, {}).update(dict.fromkeys(method.forms))
    baselines = [BaselineDetector(_new_baseline(name), tuple(of)) for name, of in forms.items()]
    return [*language_model_detectors(model, asked), *baselines]


def _new_baseline(name: str) -> Baseline:
    baseline = BASELINES[name]
    return baseline(*(fetch_weight_file(part, cache_root()) for part in baseline.parts))


def language_model_detectors(
    model: AudioLanguageModel, requested: Sequence[tuple[str, Config, Adapter | None]]
) -> list[Detector]:
    """One detector for all methods (name, config, adapter) that pad alike: the audio encoder runs once for them."""
    alike: dict[str, LanguageModelDetector] = {}
    for name, config, adapter in requested:
        new = LanguageModelDetector(model, config.short_clips, {}, config.scoring.batch_seconds)
        alike.setdefault(config.short_clips.model_dump_json(), new).methods[name] = config.prompt, adapter
    return list(alike.values())
