"""Which question to ask: several prompts scored on dev, over one pass of the audio tower.

Each prompt is judged as a search is: by the balanced accuracy on dev of decisions whose threshold other dev groups
chose. The interval is that of these decisions. Test clips stay closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.config import Config
from listenwell.data.audio import Waveform
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_decisions
from listenwell.evaluate.intervals import Metric, balanced_accuracy_interval
from listenwell.evaluate.metrics import roc_auc
from listenwell.evaluate.scores import ScoreTable
from listenwell.judge.score import score_clips
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import read_parts
from listenwell.splits.divide import DEV


@dataclass(frozen=True, slots=True)
class JudgedPrompt:
    """A question, its cross-fitted balanced accuracy on dev with interval, its AUC, and the threshold of all of dev."""

    question: str
    balanced_accuracy: Metric
    auc: float
    threshold: float


@dataclass(frozen=True, slots=True)
class _PromptDetector:
    """One model and adapter, several prompts: the tower runs once per clip."""

    model: AudioLanguageModel
    adapter: Adapter | None
    prompts: Sequence[PromptConfig]
    short_clips: ShortClipConfig
    batch_seconds: float

    def scores(self, waveforms: Sequence[Waveform]) -> dict[str, NDArray[np.float64]]:
        """Number of the prompt -> scores (B,)."""
        mels = [extract_features(self.model.mel_filters, samples, self.short_clips) for samples in waveforms]
        own = self.adapter if self.adapter is not None and self.model.changes_encoder(self.adapter) else None
        audio = embed_clips(self.model, mels, self.batch_seconds, own)
        return {
            str(i): answer_scores(self.model, audio, self.model.prompt(prompt), self.adapter)
            for i, prompt in enumerate(self.prompts)
        }


def judge_prompts(
    config: Config,
    questions: Sequence[str],
    adapter_folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> list[JudgedPrompt]:
    """Return the questions, best first, judged on dev under the config's conditions.

    Raises ConfigError when there are fewer than two different questions.
    """
    if len(set(questions)) < 2:
        raise ConfigError(f"prompts: {len(set(questions))} question was given; give at least two different ones.")
    parts, _ = read_parts(config, on_progress)
    model = load_model(config.model)
    adapter = None if adapter_folder is None else read_adapter(adapter_folder, model)[0]
    prompts = [config.prompt.model_copy(update={"question": question}) for question in dict.fromkeys(questions)]
    detector = _PromptDetector(model, adapter, prompts, config.short_clips, config.scoring.batch_seconds)
    tables = score_clips(
        [detector], parts.clips[DEV], parts.banks[DEV], config.evaluation.conditions, config, on_progress,
        "asking on dev",
    )  # fmt: skip
    judged = [_judge(prompt.question, tables[str(i)]) for i, prompt in enumerate(prompts)]
    return sorted(judged, key=lambda each: (-each.balanced_accuracy.value, -each.auc))


def _judge(question: str, dev: ScoreTable) -> JudgedPrompt:
    decisions = cross_fitted_decisions(dev)
    return JudgedPrompt(
        question,
        balanced_accuracy_interval(decisions, dev.is_speech, dev.group),
        roc_auc(dev.score, dev.is_speech),
        choose_threshold(dev).value,
    )
