"""Leave one speaker out: does it hold for a voice it never heard, voice by voice?

Folds are made of the study pool (the clips that train and choose) alone; sealed and out-of-corpus groups enter none.
Every fold trains its own fit, chooses epoch and threshold on its own dev groups, and decides its held-out speaker and
sound sources with them. The config itself was chosen on all speakers, which the record says ("fixed").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from listenwell.atomic_files import write_json
from listenwell.augment.conditions import CLEAN
from listenwell.config import Config, change_config
from listenwell.data.folds import Fold, leave_one_speaker_out
from listenwell.data.splits import check_disjoint
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.intervals import balanced_accuracy_interval, proportion
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import RunFolder
from listenwell.study.arms import check_changes
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.fitting import FinishedFit, FitRequest, fit_all, read_json
from listenwell.study.parts import DEV, TRAIN, Parts
from listenwell.study.score import score_clips
from listenwell.train.fit_underway import Progress

HELD_OUT = "held_out"
MODE = "fixed: the config was chosen on all speakers"


def run_loso(
    config: Config,
    arms: Mapping[str, Config],
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_progress: OnProgress = ignore_progress,
) -> list[dict[str, Any]]:
    """Return one record per arm (name -> config): the pooled measures, and one entry per speaker.

    A fold whose fit left the finite numbers is named in the record and left out of its measures.
    """
    check_changes("loso.changes", config.loso.changes)
    pool = [clip for part in (TRAIN, DEV) for clip in parts.clips[part]]
    folds = leave_one_speaker_out(pool, config.loso.dev_speakers, config.data.split_seed)
    requests = fold_requests(config, arms, folds, parts)
    fits = iter(zip(requests, fit_all(requests, model, run, on_step), strict=True))
    records = []
    for name in arms:
        decided, failed = [], []
        for n_done, fold in enumerate(folds):
            request, fit = next(fits)
            if not isinstance(fit, FinishedFit):
                failed.append({"speaker": fold.speaker, "reason": fit.reason})
                continue
            decided.append((fold.speaker, *_decide_fold(request, fit, model)))
            on_progress(f"judging folds of {name}", n_done + 1, len(folds))
        records.append(_describe(name, decided, failed))
    return records


def fold_requests(config: Config, arms: Mapping[str, Config], folds: Sequence[Fold], parts: Parts) -> list[FitRequest]:
    """The fits of every arm on every fold, arm after arm."""
    return [
        FitRequest(f"{name}-without-{fold.speaker}", changed, _parts_of(fold, parts), changed)
        for name, arm in arms.items()
        for changed in [change_config(arm, config.loso.changes, "loso.changes")]
        for fold in folds
    ]


def _parts_of(fold: Fold, parts: Parts) -> Parts:
    """The fold's parts: training hears the training backgrounds; dev and the held-out groups would hear dev's."""
    clips = {TRAIN: fold.train, DEV: fold.dev, HELD_OUT: fold.held_out}
    check_disjoint(clips)
    return Parts(clips, {TRAIN: parts.banks[TRAIN], DEV: parts.banks[DEV], HELD_OUT: parts.banks[DEV]})


def _decide_fold(request: FitRequest, fit: FinishedFit, model: AudioLanguageModel) -> tuple[ScoreTable, float]:
    """Scores of the held-out clips and the fold's own threshold; scores are kept beside the fit."""
    tables = {part: _scores(request, fit, part, model) for part in (DEV, HELD_OUT)}
    return tables[HELD_OUT], choose_threshold(tables[DEV]).value


def _scores(request: FitRequest, fit: FinishedFit, part: str, model: AudioLanguageModel) -> ScoreTable:
    path = fit.folder / "scores" / f"{part}.csv"
    note = path.with_suffix(".json")
    clip_ids = [clip.clip_id for clip in request.parts.clips[part]]
    if note.is_file() and path.is_file() and read_json(note)["clips"] == clip_ids:
        return read_scores(path)
    config = request.config
    detector = LanguageModelDetector(
        model, config.prompt, config.short_clips, {HELD_OUT: fit.adapter}, config.scoring.batch_seconds
    )
    scored = score_clips([detector], request.parts.clips[part], request.parts.banks[part], [CLEAN], config)
    write_scores(path, scored.tables[HELD_OUT])
    write_json(note, {"clips": clip_ids})
    return scored.tables[HELD_OUT]


def _describe(
    arm: str, decided: Sequence[tuple[str, ScoreTable, float]], failed: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The record of one arm: clips of all folds decided, each with its fold's threshold."""
    decisions = [decide(table.score, threshold) for _, table, threshold in decided]
    is_speech = [table.is_speech for _, table, _ in decided]
    group = np.concatenate([table.group for _, table, _ in decided])
    pooled, truth = np.concatenate(decisions), np.concatenate(is_speech)
    of_folds = [balanced_accuracy(found, label) for found, label in zip(decisions, is_speech, strict=True)]
    return {
        "arm": arm,
        "mode": MODE,
        "metrics": [
            asdict(balanced_accuracy_interval(pooled, truth, group)),
            asdict(proportion("recall", pooled[truth], group[truth])),
            asdict(proportion("specificity", ~pooled[~truth], group[~truth])),
        ],
        "mean_of_folds": float(np.mean(of_folds)),
        "sd_of_folds": float(np.std(of_folds, ddof=1)) if len(of_folds) > 1 else 0.0,
        "folds": [
            {
                "speaker": speaker,
                "threshold": threshold,
                "n_speech": int(label.sum()),
                "n_nonspeech": int((~label).sum()),
                "recall": float(np.mean(found[label])),
                "specificity": float(np.mean(~found[~label])),
                "balanced_accuracy": value,
            }
            for (speaker, _, threshold), found, label, value in zip(
                decided, decisions, is_speech, of_folds, strict=True
            )
        ],
        "failed": list(failed),
    }
