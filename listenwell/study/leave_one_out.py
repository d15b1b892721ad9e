"""Leave one speaker out: does it hold for a voice it never heard, voice by voice?

Folds are made of the study pool (the clips that train and choose) alone; sealed and out-of-corpus groups enter none.
Every fold trains its own fit, chooses epoch and threshold on its own dev groups, and decides its held-out speakers and
sound sources with them. Where the config refers to a search, that search saw all speakers ("fixed"), or every fold
searches again on its own training groups ("nested"). The leak gate compares what the folds hold out: groups that know
each other would be tested by folds that trained on them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.config import Config, change_config
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import clip_hashes
from listenwell.data.splits import Fold, check_disjoint, make_folds
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.intervals import balanced_accuracy_interval, mean_over_folds, proportion
from listenwell.evaluate.metrics import Bools, balanced_accuracy, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.fits.arms import SEARCH_BEST, check_changes, expand_arms
from listenwell.fits.fitting import FinishedFit, fit_all
from listenwell.fits.request import FitRequest
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import SCORING_VERSION, load_or_make_scores, score_clips
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.divide import DEV, POOL, TRAIN, Parts
from listenwell.splits.gate import pass_gate
from listenwell.storage.run_folder import RunFolder
from listenwell.study.search import run_search
from listenwell.train.fit_underway import Progress

HELD_OUT = "held_out"
FIXED = "fixed: the config was chosen on all speakers"
NESTED = "nested: every fold searched on its own training groups"
N_HARDEST = 3
ArmConfigs = Mapping[str, Config]


def run_loso(
    config: Config,
    search_best: Mapping[str, Any] | None,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_progress: OnProgress = ignore_progress,
) -> list[dict[str, Any]]:
    """Return one record per arm of loso.arms, with the study's own seed: the measures, and one entry per speaker.

    search_best: what the search on all speakers found, None without one. A fold whose fit left the finite numbers is
    named in the record and left out of its measures. Raises ConfigError for an arm that is none or a nested search that
    nothing refers to, LeakageError when the folds know each other's groups.
    """
    check_changes("loso.changes", config.loso.changes)
    nested = nested_arms(config)
    shared = loso_arms(config, {} if nested and search_best is None else search_best)
    folds = folds_of(config, parts)
    held_out = Parts({f.name: f.held_out for f in folds}, {f.name: BackgroundBank([]) for f in folds})
    leaks = pass_gate(config, held_out, run.fold_leaks, on_progress)
    inner = [_search_fold(config, fold, model, parts, run, on_step, on_progress) for fold in folds] if nested else []
    arms = [
        {**shared, **{name: loso_arms(config, inner[i])[name] for name in nested}} if nested else shared
        for i in range(len(folds))
    ]
    requests = fold_requests(config, arms, folds, parts)
    fits = iter(zip(requests, fit_all(requests, model, run, on_step), strict=True))
    records = []
    for name in shared:
        decided, failed = [], []
        for n_done, fold in enumerate(folds):
            request, fit = next(fits)
            if not isinstance(fit, FinishedFit):
                failed.append({"speaker": fold.name, "reason": fit.reason})
                continue
            decided.append((fold.name, *_decide_fold(request, fit, model)))
            on_progress(f"judging folds of {name}", n_done + 1, len(folds))
        if not decided:
            raise TrainingError(f"leave-one-speaker-out, arm '{name}': every fold failed; {failed[0]['reason']}")
        chosen = {fold.name: dict(best) for fold, best in zip(folds, inner, strict=True)} if name in nested else {}
        told = {"mode": NESTED if name in nested else FIXED, "chosen": chosen, "n_leaks": leaks["n_leaks"]}
        records.append(describe_folds(name, decided, failed) | told)
    return records


def folds_of(config: Config, parts: Parts) -> list[Fold]:
    """The folds of a study: its pool alone, dealt out by loso.folds and data.split_seed.

    Clips that a manifest names train beside an undivided pool train in every fold and are never held out.
    """
    clips = [clip for part in (TRAIN, DEV) for clip in parts.clips[part]]
    has_pool = any(clip.split in (POOL, "") for clip in clips)
    always = [clip for clip in clips if has_pool and clip.split == TRAIN]
    kept = {clip.clip_id for clip in always}
    dealt = [clip for clip in clips if clip.clip_id not in kept]
    folds = make_folds(dealt, config.loso.folds, config.loso.dev_speakers, config.data.split_seed)
    return [replace(fold, train=[*fold.train, *always]) for fold in folds]


def loso_arms(config: Config, search_best: Mapping[str, Any] | None) -> dict[str, Config]:
    """The configs of loso.arms, in that order, under the study's own seed. Raises ConfigError for an unknown arm."""
    alone = config.model_copy(update={"seeds": ()})
    arms = {arm.name: arm.config for arm in expand_arms(alone, search_best)}
    unknown = [name for name in config.loso.arms if name not in arms]
    if unknown:
        raise ConfigError(f"loso.arms names '{unknown[0]}', which is no arm; there are {', '.join(arms)}.")
    return {name: arms[name] for name in config.loso.arms}


def nested_arms(config: Config) -> list[str]:
    """The arms of loso.arms that search in every fold. Raises ConfigError for a nested mode that none needs."""
    if config.loso.mode == "fixed":
        return []
    wanting = [name for name, changes in config.arms.items() if changes.get(SEARCH_BEST)]
    found = [name for name in config.loso.arms if name in wanting]
    if not found or not config.search.is_wanted:
        raise ConfigError(
            "loso.mode is nested, but no arm of loso.arms takes what a search found; give search.grid or "
            "search.sampled.trials, an arm such as 'tuned: {search.best: true}', and name it in loso.arms."
        )
    return found


def fold_search_config(config: Config) -> Config:
    """The config a nested fold searches with; loso.changes hold for its trials, whatever their points say."""
    changes = config.loso.changes
    grid = tuple({**point, **changes} for point in config.search.grid)
    space = {key: choices for key, choices in config.search.sampled.space.items() if key not in changes}
    sampled = config.search.sampled.model_copy(update={"space": space})
    search = config.search.model_copy(update={"grid": grid, "sampled": sampled})
    return change_config(config, changes, "loso.changes").model_copy(update={"search": search})


def _search_fold(
    config: Config,
    fold: Fold,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None],
    on_progress: OnProgress,
) -> Mapping[str, Any]:
    """The best point of a search that knows the fold's training groups alone."""
    name = f"without-{fold.name}"
    found = run_search(fold_search_config(config), model, fold_parts(fold, parts), run, on_step, on_progress, fold=name)
    best: Mapping[str, Any] = found["best"]
    return best


def fold_requests(config: Config, arms: Sequence[ArmConfigs], folds: Sequence[Fold], parts: Parts) -> list[FitRequest]:
    """The fits of every arm on every fold, arm after arm; arms: those of each fold."""
    of_folds = [fold_parts(fold, parts) for fold in folds]
    return [
        FitRequest(f"{name}-without-{fold.name}", changed, own, changed)
        for name in arms[0]
        for fold, of_fold, own in zip(folds, arms, of_folds, strict=True)
        for changed in [change_config(of_fold[name], config.loso.changes, "loso.changes")]
    ]


def fold_parts(fold: Fold, parts: Parts) -> Parts:
    """The fold's parts: training hears the training backgrounds; dev and the held-out groups would hear dev's."""
    clips = {TRAIN: fold.train, DEV: fold.dev, HELD_OUT: fold.held_out}
    check_disjoint(clips)
    return Parts(clips, {TRAIN: parts.banks[TRAIN], DEV: parts.banks[DEV], HELD_OUT: parts.banks[DEV]})


def _decide_fold(request: FitRequest, fit: FinishedFit, model: AudioLanguageModel) -> tuple[ScoreTable, float]:
    """Scores of the held-out clips and the fold's own threshold; scores are kept beside the fit."""
    tables = {part: _scores(request, fit, part, model) for part in (DEV, HELD_OUT)}
    return tables[HELD_OUT], choose_threshold(tables[DEV]).value


def _scores(request: FitRequest, fit: FinishedFit, part: str, model: AudioLanguageModel) -> ScoreTable:
    """Scores of the clips of one part as they are; kept beside the fit."""
    config, clips = request.config, request.parts.clips[part]
    made_from = {
        "version": SCORING_VERSION,
        "clips": clip_hashes(clips),
        "scoring.batch_seconds": config.scoring.batch_seconds,
        "seed": config.seed,
    }

    def score(missing: Sequence[int]) -> list[ScoreTable]:
        detector = LanguageModelDetector(
            model, config.prompt, config.short_clips, {HELD_OUT: fit.adapter}, config.scoring.batch_seconds
        )
        return [score_clips([detector], clips, request.parts.banks[part], [CLEAN], config)[HELD_OUT]]

    return load_or_make_scores({0: fit.folder / "scores" / f"{part}.csv"}, made_from, score)[0]


def describe_folds(
    arm: str, decided: Sequence[tuple[str, ScoreTable, float]], failed: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The record of one arm: clips of all folds decided, each with its fold's threshold."""
    decisions = [decide(table.score, threshold) for _, table, threshold in decided]
    is_speech = [table.is_speech for _, table, _ in decided]
    group = np.concatenate([table.group for _, table, _ in decided])
    pooled, truth = np.concatenate(decisions), np.concatenate(is_speech)
    of_folds = np.array([balanced_accuracy(found, label) for found, label in zip(decisions, is_speech, strict=True)])
    folds = [
        {"threshold": threshold, **_describe_part(fold, found, label)}
        for (fold, _, threshold), found, label in zip(decided, decisions, is_speech, strict=True)
    ]
    speakers = [
        each for (fold, table, _), found in zip(decided, decisions, strict=True)
        for each in _describe_speakers(fold, table, found)
    ]  # fmt: skip
    ranked = sorted(speakers, key=lambda each: (each["balanced_accuracy"], each["speaker"]))
    return {
        "arm": arm,
        "metrics": [
            asdict(balanced_accuracy_interval(pooled, truth, group)),
            asdict(proportion("recall", pooled[truth], group[truth])),
            asdict(proportion("specificity", ~pooled[~truth], group[~truth])),
        ],
        "mean": asdict(mean_over_folds("mean_of_folds", of_folds, np.array([len(label) for label in is_speech]))),
        "mean_of_folds": float(np.mean(of_folds)),
        "sd_of_folds": float(np.std(of_folds, ddof=1)) if len(of_folds) > 1 else 0.0,
        "hardest": [each["speaker"] for each in ranked[:N_HARDEST]],
        "folds": folds,
        "speakers": speakers,
        "failed": list(failed),
    }


def _describe_speakers(fold: str, table: ScoreTable, decided: Bools) -> list[dict[str, Any]]:
    """Every held-out speaker of a fold, beside all the other sounds held out with it."""
    nonspeech = ~table.is_speech
    own = {name: table.is_speech & (table.group == name) for name in sorted(set(table.group[table.is_speech].tolist()))}
    return [
        {"fold": fold, **_describe_part(name, decided[clips | nonspeech], table.is_speech[clips | nonspeech])}
        for name, clips in own.items()
    ]


def _describe_part(speaker: str, decided: Bools, is_speech: Bools) -> dict[str, Any]:
    return {
        "speaker": speaker,
        "n_speech": int(is_speech.sum()),
        "n_nonspeech": int((~is_speech).sum()),
        "recall": float(np.mean(decided[is_speech])),
        "specificity": float(np.mean(~decided[~is_speech])),
        "balanced_accuracy": balanced_accuracy(decided, is_speech),
    }
