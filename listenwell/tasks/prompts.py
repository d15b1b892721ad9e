"""Which question to ask: several prompts scored on dev, over one pass of the audio encoder.

Each prompt is judged as a search is: by the balanced accuracy on dev of decisions whose threshold other dev groups
chose. The interval is that of these decisions. Test clips stay closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.config import Config
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_decisions
from listenwell.evaluate.intervals import Metric, balanced_accuracy_interval
from listenwell.evaluate.metrics import roc_auc
from listenwell.evaluate.scores import ScoreTable
from listenwell.judge.detectors import language_model_detectors
from listenwell.judge.score import score_clips
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import read_splits
from listenwell.splits.divide import DEV


@dataclass(frozen=True, slots=True)
class JudgedPrompt:
    """A question, its cross-fitted balanced accuracy on dev with interval, its AUC, and the threshold of all of dev."""

    question: str
    balanced_accuracy: Metric
    auc: float
    threshold: float


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
    splits, _ = read_splits(config, on_progress)
    model = load_model(config.model)
    adapter = None if adapter_folder is None else read_adapter(adapter_folder, model)[0]
    prompts = {question: config.prompt.model_copy(update={"question": question}) for question in questions}
    requested = [
        (question, config.model_copy(update={"prompt": prompt}), adapter) for question, prompt in prompts.items()
    ]
    detectors = language_model_detectors(model, requested)
    tables = score_clips(
        detectors, splits.clips[DEV], splits.banks[DEV], config.evaluation.conditions, config, on_progress,
        "asking on dev",
    )  # fmt: skip
    judged = [_judge(question, tables[question]) for question in prompts]
    return sorted(judged, key=lambda prompt: (-prompt.balanced_accuracy.value, -prompt.auc))


def _judge(question: str, dev: ScoreTable) -> JudgedPrompt:
    decisions = cross_fitted_decisions(dev)
    return JudgedPrompt(
        question,
        balanced_accuracy_interval(decisions, dev.is_speech, dev.group),
        roc_auc(dev.score, dev.is_speech),
        choose_threshold(dev).value,
    )
