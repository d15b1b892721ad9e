"""Score the clips of a manifest with a base model or a trained adapter, and measure what the scores show.

An adapter brings its own prompt and short-clip policy: it is scored as it was trained. What was scored before with
the same settings, model and recordings is read back, not computed again.

Which question to ask is judged on dev as a search is, over one pass of the audio encoder: by the balanced accuracy of
decisions whose threshold other dev groups chose, with its interval. Test clips stay closed.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from listenwell.augment.conditions import CLEAN, parse_condition
from listenwell.config import Config, config_beside, dump
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import clip_hashes
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import choose_threshold, cross_fitted_decisions
from listenwell.evaluate.intervals import Metric, balanced_accuracy_interval
from listenwell.evaluate.methods import FINE_TUNED, ZERO_SHOT, summarise
from listenwell.evaluate.metrics import roc_auc
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.judge.detectors import LANGUAGE_MODEL_DEFAULT, language_model_detectors
from listenwell.judge.score import SCORING_VERSION, made_tables, score_clips
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model, resolve_dtype
from listenwell.model.mel import ShortClipConfig
from listenwell.model.prompt import PromptConfig
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import (
    find_manifest,
    read_noise,
    read_split,
    read_splits,
    set_aside_unreadable,
    write_quarantine,
)
from listenwell.splits.divide import DEV
from listenwell.splits.sealing import content_sha256, is_test_split, note_opening
from listenwell.storage.atomic_files import write_json, write_text
from listenwell.storage.load_or_make import Made, hash_file, load_or_make, write_checksummed
from listenwell.storage.run_folder import RunFolder, provenance
from listenwell.tasks.runs import find_adapter


@dataclass(frozen=True, slots=True)
class ScoredManifest:
    """Scores of one set of clips and what they show at LANGUAGE_MODEL_DEFAULT, by condition.

    clips_per_s is None when the scores were read back.
    """

    method: str
    table: ScoreTable
    metrics: dict[str, list[Metric]]
    n_unreadable: int
    clips_per_s: float | None


def score_manifest(
    config: Config,
    split: str = "",
    conditions: Sequence[str] = (CLEAN,),
    adapter_folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> ScoredManifest:
    """Score `split` of the config's clips ("" = all) and write scores, quarantine and results below config.output."""
    clips = read_split(find_manifest(config, on_progress), split, config.data.columns)
    readable, unreadable = set_aside_unreadable(clips, config.data.quarantine_share, on_progress)
    is_noisy = any(parse_condition(condition).snr_db is not None for condition in conditions)
    bank = BackgroundBank(fill_backgrounds(read_noise(config, split, on_progress), on_progress) if is_noisy else [])
    model = load_model(config.model)
    method, adapter = ZERO_SHOT, None
    if adapter_folder is not None:
        adapter_folder = find_adapter(adapter_folder)
        method = FINE_TUNED
        adapter, listens = read_adapter(adapter_folder, model)
        if listens:  # an adapter of PEFT's own brings none
            prompt, short_clips = PromptConfig(**listens["prompt"]), ShortClipConfig(**listens["short_clips"])
            config = config.model_copy(update={"prompt": prompt, "short_clips": short_clips})
    run, name = RunFolder(config.output), split or "all"
    if is_test_split(split):
        note_opening(split, content_sha256(readable), run.root)
    # what else lies in the adapter's folder decides nothing
    files = (
        [f for kind in ("*.safetensors", "*.json") for f in sorted(adapter_folder.glob(kind))] if adapter_folder else []
    )
    made_from: dict[str, Any] = {
        "version": SCORING_VERSION,
        "settings": config.model_dump(mode="json", include={"prompt", "short_clips"}),
        "dtype": resolve_dtype(config.model),
        "scoring.batch_seconds": config.scoring.batch_seconds,
        "model": model.fingerprint,
        "adapter": {path.name: hash_file(path) for path in files},
        "conditions": list(conditions),
        "seed": config.seed if bank.entries else None,
        "clips": clip_hashes(readable),
        "backgrounds": bank.hashes,
    }
    clips_per_s = None

    def make() -> Made:
        nonlocal clips_per_s
        started = time.monotonic()
        detectors = language_model_detectors(model, [(method, config, adapter)])
        table = score_clips(detectors, readable, bank, conditions, config, on_progress)[method]
        clips_per_s = len(table) / (time.monotonic() - started)
        return made_tables({run.scores(name): table})

    load_or_make(run.score_identity(name), made_from, make)
    table = read_scores(run.scores(name))
    write_quarantine(run.quarantine(name), unreadable)
    metrics = {
        condition: summarise(table.select(table.condition == condition), LANGUAGE_MODEL_DEFAULT, config.seed)
        for condition in conditions
    }
    write_text(run.config, dump(config_beside(config, run.root)))
    write_json(run.provenance, provenance())
    content = {condition: [asdict(metric) for metric in of] for condition, of in metrics.items()}
    write_checksummed(run.results, {method: {name: content}, "made_from": made_from})
    return ScoredManifest(method, table, metrics, len(unreadable), clips_per_s)


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
    adapter = None if adapter_folder is None else read_adapter(find_adapter(adapter_folder), model)[0]
    requested = []
    for question in dict.fromkeys(questions):
        prompt = config.prompt.model_copy(update={"question": question})
        requested.append((question, config.model_copy(update={"prompt": prompt}), adapter))
    tables = score_clips(
        language_model_detectors(model, requested), splits.clips[DEV], splits.banks[DEV],
        config.evaluation.conditions, config, on_progress, "asking on dev",
    )  # fmt: skip
    judged = []
    for question, *_ in requested:
        dev = tables[question]
        accuracy = balanced_accuracy_interval(cross_fitted_decisions(dev), dev.is_speech, dev.group)
        auc = roc_auc(dev.score, dev.is_speech)
        judged.append(JudgedPrompt(question, accuracy, auc, choose_threshold(dev).value))
    return sorted(judged, key=lambda prompt: (-prompt.balanced_accuracy.value, -prompt.auc))
