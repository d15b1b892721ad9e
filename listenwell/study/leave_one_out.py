"""Leave one speaker, or one corpus, out: does it hold for speakers, and for corpora, that did not train?

Folds are made of the study pool (the clips that train and choose) alone, or, with leave_one_out.over all, of every
group: then the tests' speakers train the folds of others, after the study's thresholds were committed. Every fold
trains its own fit, chooses epoch and threshold on its own dev groups, and decides its held-out speakers and sound
sources with them, under every condition; the base model and the classic detectors are decided at thresholds of the same
dev clips. Where the config refers to a search, that search saw all speakers of the pool ("fixed"), or every fold
searches again on its own training groups ("nested"). The leak gate compares what the folds hold out: groups that know
each other would be tested by folds that trained on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.config import Config, change_config
from listenwell.data.backgrounds import BackgroundBank, clip_background_id
from listenwell.data.clip import Clip
from listenwell.data.splits import Fold, check_disjoint, make_category_folds, make_corpus_folds, make_folds
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.comparison import PairedDifference, compare_balanced_accuracy
from listenwell.evaluate.intervals import balanced_accuracy_interval, mean_over_folds, proportion
from listenwell.evaluate.methods import FINE_TUNED, JudgedMethod, versions
from listenwell.evaluate.metrics import Bools, Floats, balanced_accuracy
from listenwell.evaluate.scores import ScoreTable, join_tables
from listenwell.fits.fitting import FinishedFit, Trained, Trainer
from listenwell.fits.request import FINAL, SEARCH_BEST, FitRequest, check_changes, expand_arms
from listenwell.judge.detectors import AT_DEFAULT, Forms, study_methods
from listenwell.judge.evidence import LeftOut
from listenwell.judge.score import Scored, score_fits, score_split
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.results import LEAVE_ONE_OUT
from listenwell.report.trained import LeaveOneOut
from listenwell.splits.divide import DEV, POOL, TRAIN, Splits
from listenwell.splits.gate import pass_gate
from listenwell.storage.run_folder import RunFolder
from listenwell.study.search import run_search

HELD_OUT = "held_out"
FIXED = "fixed: the config was chosen on all speakers"
NESTED = "nested: every fold searched on its own training groups"
CORPUS, CATEGORY = "corpus", "category"
FOLDS = "folds"


@dataclass(frozen=True, slots=True)
class DecidedFold:
    """A fold's scores on its dev clips and on what it held out, and the threshold that dev chose."""

    name: str
    dev: ScoreTable
    held_out: ScoreTable
    threshold: float

    @property
    def clean(self) -> ScoreTable:
        """The held-out clips as they are, their scores less the threshold."""
        table = versions(self.held_out)[CLEAN]
        return replace(table, score=table.score - self.threshold)


ByFolds = Mapping[str, Sequence[DecidedFold]]
"""What was left out (group, corpus) -> its folds."""


def leave_out(
    config: Config,
    splits: Splits,
    trained: Trained,
    scored: Scored,
    run: RunFolder,
    on_progress: OnProgress = ignore_progress,
) -> LeftOut:
    """Return what the arms of leave_one_out.arms reach, and the arm final against its opponents; nothing without arms.

    Raises as `run_leave_one_out`.
    """
    if not config.leave_one_out.arms:
        return LeftOut()
    trainer = Trainer(trained.model, run, on_progress)
    best = trained.searched.best if trained.searched else None
    records, folds = run_leave_one_out(config, best, trainer, splits)
    judged: dict[str, Sequence[JudgedMethod]] = {}
    if FINAL in folds:
        opponents, defaults = score_opponents(config, splits, scored.forms, trainer), scored.defaults
        judged = {LEAVE_ONE_OUT.format(by): judge_folds(of, opponents, defaults) for by, of in folds[FINAL].items()}
    return LeftOut(records, judged)


def run_leave_one_out(
    config: Config, search_best: Mapping[str, Any] | None, trainer: Trainer, splits: Splits
) -> tuple[list[LeaveOneOut], dict[str, ByFolds]]:
    """Return one record per arm of leave_one_out.arms under the study's seed, of clean clips, and every arm's folds.

    search_best: what the search on all speakers found, None without one. A fold whose fit left the finite numbers is
    named in the record and left out of its measures. Raises ConfigError for an arm that is none or a nested search that
    nothing refers to, LeakageError when the folds know each other's groups.
    """
    check_changes("leave_one_out.changes", config.leave_one_out.changes)
    nested = nested_arms(config)
    shared = fold_arms(config, {} if nested and search_best is None else search_best)
    folds_by = {by: folds_of(config, splits, by) for by in config.leave_one_out.by}
    # groups that know each other across corpora do so across speakers: the first, finest folds are compared
    first = next(iter(folds_by.values()))
    tested = Splits(_parts_by_group(first), {f.name: BackgroundBank([]) for f in first})
    leaks = pass_gate(config, tested, trainer.run.fold_leaks, trainer.on_progress)
    folds = [fold for of in folds_by.values() for fold in of]
    searching = fold_search_config(config)
    inner = {
        fold.name: run_search(searching, trainer, fold_splits(fold, splits), f"without-{fold.name}").best
        for fold in (folds if nested else [])
    }
    requests = {
        (name, fold.name): request_fold(
            config, name, fold_arms(config, inner[fold.name])[name] if name in nested else shared[name], fold, splits
        )
        for name in shared
        for fold in folds
    }
    fits = dict(zip(requests, trainer.fit_all(list(requests.values())), strict=True))
    records = []
    found: dict[str, dict[str, list[DecidedFold]]] = {name: {} for name in shared}
    for name in shared:
        for by, of_by in folds_by.items():
            decided, failed = [], []
            for fold in of_by:
                fit = fits[name, fold.name]
                if isinstance(fit, FinishedFit):
                    decided.append(_decide_fold(fold.name, requests[name, fold.name], fit, trainer))
                else:
                    failed.append({"speaker": fold.name, "reason": fit.reason})
                trainer.on_progress(f"judging folds of {name}", len(decided) + len(failed), len(of_by))
            if not decided:
                raise TrainingError(f"leave-one-out by {by}, arm '{name}': every fold failed; {failed[0]['reason']}")
            found[name][by] = decided
            mode, chosen = (NESTED, inner) if name in nested else (FIXED, {})
            record = describe_folds(name, decided, failed) | {
                "by": by, "mode": mode, "chosen": chosen, "n_leaks": leaks["n_leaks"],
                "gap": measure_gap(found[name]["group"], decided, config.seed)
                if by == CORPUS and "group" in found[name] else None,
            }  # fmt: skip
            records.append(LeaveOneOut.model_validate(record))
    return records, dict(found)


def score_opponents(config: Config, splits: Splits, forms: Forms, trainer: Trainer) -> dict[str, ScoreTable]:
    """The base model's and the baselines' scores of all clips that folds hold out."""
    evaluation = config.evaluation.model_copy(update={"conditions": config.leave_one_out.conditions})
    scoring = config.model_copy(update={"evaluation": evaluation})
    model, bank, methods = trainer.model, splits.banks[DEV], study_methods(scoring, trainer.model, forms=forms)
    clips = [clip for split in folded_splits(config, splits) for clip in splits.clips[split]]
    tables, _ = score_split(methods, model, clips, bank, scoring, trainer.run, FOLDS, trainer.on_progress)
    return tables


def judge_folds(
    folds: Sequence[DecidedFold], opponents: Mapping[str, ScoreTable], defaults: Mapping[str, float]
) -> list[JudgedMethod]:
    """The fine-tuned model of every fold as one method on all held-out clips, then its opponents on the same ones.

    An opponent's threshold in a fold is that of the fold's dev clips, as ours.
    """
    ours = join_tables([fold.held_out for fold in folds])
    thresholds = np.concatenate([np.full(len(fold.held_out), fold.threshold) for fold in folds])
    judged = [_shifted(FINE_TUNED, ours, thresholds, defaults[FINE_TUNED], ours)]
    for name, table in opponents.items():
        if name.endswith(AT_DEFAULT):
            continue
        chosen = [choose_threshold(_rows_of(table, fold.dev)).value for fold in folds]
        thresholds = np.concatenate([np.full(len(f.held_out), t) for f, t in zip(folds, chosen, strict=True)])
        at_default = _rows_of(opponents.get(name + AT_DEFAULT, table), ours)
        judged.append(_shifted(name, _rows_of(table, ours), thresholds, defaults[name], at_default))
    return judged


def _shifted(name: str, table: ScoreTable, thresholds: Floats, default: float, at_default: ScoreTable) -> JudgedMethod:
    return JudgedMethod(name, replace(table, score=table.score - thresholds), default, None, at_default)


def _rows_of(table: ScoreTable, wanted: ScoreTable) -> ScoreTable:
    """The rows of `table` that are the wanted versions, in their order."""
    keys = zip(table.clip_id.tolist(), table.condition.tolist(), strict=True)
    place = {key: position for position, key in enumerate(keys)}
    versions = zip(wanted.clip_id.tolist(), wanted.condition.tolist(), strict=True)
    return table.take(np.array([place[version] for version in versions]))


def _parts_by_group(folds: Sequence[Fold]) -> dict[str, list[Clip]]:
    """What each fold holds out; a group of several corpora, which no fold of theirs trains on, in the first of them."""
    first = {clip.group: fold.name for fold in reversed(folds) for clip in fold.held_out}
    clips = [clip for fold in folds for clip in fold.held_out]
    return {fold.name: [clip for clip in clips if first[clip.group] == fold.name] for fold in folds}


def measure_gap(by_group: Sequence[DecidedFold], by_corpus: Sequence[DecidedFold], seed: int) -> PairedDifference:
    """Return what a foreign corpus costs: balanced accuracy by speaker minus that by corpus, on the clips of both."""
    of_group, of_corpus = (join_tables([fold.clean for fold in folds]) for folds in (by_group, by_corpus))
    both = of_group.select(np.isin(of_group.clip_id, of_corpus.clip_id))
    says = [_rows_of(table, both).score >= 0 for table in (of_group, of_corpus)]
    return compare_balanced_accuracy(says[0], says[1], both.is_speech, both.group, seed)


def folded_splits(config: Config, splits: Splits) -> list[str]:
    """The splits whose groups are held out in turn."""
    return [TRAIN, DEV, *(splits.test_sets if config.leave_one_out.over == "all" else ())]


def folds_of(config: Config, splits: Splits, by: str) -> list[Fold]:
    """The folds of a study, dealt out by leave_one_out.folds and data.split_seed.

    Clips that a manifest names train beside an undivided pool train in every fold and are never held out; in those
    that hold their corpus out they do not train either.
    """
    clips = [clip for split in folded_splits(config, splits) for clip in splits.clips[split]]
    has_pool = any(clip.split in (POOL, "") for clip in clips)
    always = [clip for clip in clips if has_pool and clip.split == TRAIN]
    kept = {clip.clip_id for clip in always}
    dealt = [clip for clip in clips if clip.clip_id not in kept]
    n_dev, seed = config.leave_one_out.dev_speakers, config.data.split_seed
    if by == CORPUS:
        folds = make_corpus_folds(dealt, n_dev, seed)
    else:
        make = make_category_folds if by == CATEGORY else make_folds
        folds = make(dealt, config.leave_one_out.folds, n_dev, seed)
    return [
        replace(fold, train=[*fold.train, *(clip for clip in always if clip.corpus not in fold.corpora)])
        for fold in folds
    ]


def fold_arms(config: Config, search_best: Mapping[str, Any] | None) -> dict[str, Config]:
    """The configs of leave_one_out.arms, in that order, under the study's seed. Raises ConfigError for no arm."""
    alone = config.model_copy(update={"seeds": ()})
    arms = {arm.name: arm.config for arm in expand_arms(alone, search_best)}
    unknown = [name for name in config.leave_one_out.arms if name not in arms]
    if unknown:
        raise ConfigError(f"leave_one_out.arms names '{unknown[0]}', which is no arm; there are {', '.join(arms)}.")
    return {name: arms[name] for name in config.leave_one_out.arms}


def nested_arms(config: Config) -> list[str]:
    """The arms of leave_one_out.arms that search in each fold. Raises ConfigError for a nested mode that none needs."""
    if config.leave_one_out.mode == "fixed":
        return []
    nested = [n for n in config.leave_one_out.arms if n in config.arms and config.arms[n].get(SEARCH_BEST)]
    if not nested or not config.search.is_wanted:
        raise ConfigError(
            "leave_one_out.mode is nested, but no arm of leave_one_out.arms takes what a search found; give search.grid"
            " or search.sampled.trials, an arm such as 'tuned: {search.best: true}', and name it in leave_one_out.arms."
        )
    return nested


def fold_search_config(config: Config) -> Config:
    """The config a nested fold searches with; leave_one_out.changes hold for its trials, whatever their points say."""
    changes = config.leave_one_out.changes
    grid = tuple({**point, **changes} for point in config.search.grid)
    space = {key: choices for key, choices in config.search.sampled.space.items() if key not in changes}
    sampled = config.search.sampled.model_copy(update={"space": space})
    search = config.search.model_copy(update={"grid": grid, "sampled": sampled})
    return change_config(config, changes, "leave_one_out.changes").model_copy(update={"search": search})


def request_fold(config: Config, arm: str, arm_config: Config, fold: Fold, splits: Splits) -> FitRequest:
    """The fit of an arm, whose config is given, on the fold; leave_one_out.changes hold for it."""
    changed = change_config(arm_config, config.leave_one_out.changes, "leave_one_out.changes")
    return FitRequest(f"{arm}-without-{fold.name}", changed, fold_splits(fold, splits), changed)


def fold_splits(fold: Fold, splits: Splits) -> Splits:
    """The fold's splits: training gets the training backgrounds; dev and the held-out groups would get dev's.

    Where training mixes speakers under a clip, they are those of the fold's own training clips; backgrounds of a corpus
    that is held out do not train.
    """
    clips = {TRAIN: fold.train, DEV: fold.dev, HELD_OUT: fold.held_out}
    check_disjoint(clips)
    bank = splits.banks[TRAIN]
    speakers = {clip_background_id(clip) for clip in splits.clips[TRAIN]}
    recordings = [entry for entry in bank.entries if entry.background_id not in speakers]
    has_speakers = len(recordings) < len(bank.entries)
    own = [entry for entry in recordings if entry.corpus not in fold.corpora]
    if has_speakers or len(own) < len(recordings):
        bank = BackgroundBank(own, speakers=fold.train if has_speakers else ())
    return Splits(clips, {TRAIN: bank, DEV: splits.banks[DEV], HELD_OUT: splits.banks[DEV]})


def _decide_fold(name: str, request: FitRequest, fit: FinishedFit, trainer: Trainer) -> DecidedFold:
    config, splits, conditions = request.config, request.splits, request.config.leave_one_out.conditions
    dev, held_out = (
        score_fits([(config, fit)], trainer, splits, split, conditions, config, split)[fit.folder]
        for split in (DEV, HELD_OUT)
    )
    return DecidedFold(name, dev, held_out, choose_threshold(dev).value)


def describe_folds(arm: str, decided: Sequence[DecidedFold], failed: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The record of one arm on clean clips."""
    folds, speakers = [], []
    for fold in decided:
        table = fold.clean
        decision, truth = table.score >= 0, table.is_speech
        folds.append({"threshold": fold.threshold, **_describe_part(fold.name, decision, truth)})
        for name in sorted(set(table.group[truth].tolist())):
            # every speaker beside all the other sounds held out with it
            rows = ~truth | (table.group == name)
            speakers.append({"fold": fold.name, **_describe_part(name, decision[rows], truth[rows])})
    table = join_tables([fold.clean for fold in decided])
    pooled, truth, group = table.score >= 0, table.is_speech, table.group
    of_folds = np.array([fold["balanced_accuracy"] for fold in folds])
    return {
        "arm": arm,
        "metrics": [
            asdict(balanced_accuracy_interval(pooled, truth, group)),
            asdict(proportion("recall", pooled[truth], group[truth])),
            asdict(proportion("specificity", ~pooled[~truth], group[~truth])),
        ],
        "mean": asdict(mean_over_folds("mean_of_folds", of_folds, np.array([len(fold.clean) for fold in decided]))),
        "mean_of_folds": float(np.mean(of_folds)),
        "sd_of_folds": float(np.std(of_folds, ddof=1)) if len(of_folds) > 1 else 0.0,
        "folds": folds,
        "speakers": speakers,
        "failed": list(failed),
    }


def _describe_part(speaker: str, decided: Bools, is_speech: Bools) -> dict[str, Any]:
    return {
        "speaker": speaker,
        "n_speech": int(is_speech.sum()),
        "n_nonspeech": int((~is_speech).sum()),
        "recall": float(np.mean(decided[is_speech])),
        "specificity": float(np.mean(~decided[~is_speech])),
        "balanced_accuracy": balanced_accuracy(decided, is_speech),
    }
