"""Score clips under conditions: every detector gets the same waveforms, each gives one table.

Versions of similar length go together, at most `scoring.batch_seconds` of them; the batches follow from durations
and names alone and each is computed on one thread, so the same clips give the same scores to the bit with any number
of workers. Clips were read before (listenwell.splits.clips); one that cannot be read any more, or holds other samples
by now, stops the scoring.

Beside each table on disk lies a note that says what it was made from and holds its hash. Tables are read back where
they were made from the same things; methods without such a table are scored together, the others are left alone.

A study scores dev first, which chooses the thresholds. They are committed to the seal before the first test clip is
scored, and the test sets are scored once, under all conditions, by all methods.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.augment.conditions import parse_condition, plan_condition
from listenwell.augment.plan import apply_plan
from listenwell.config import Config
from listenwell.data.audio import Waveform, load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip, clip_hashes
from listenwell.errors import ManifestError, ModelError
from listenwell.evaluate.calibration import Threshold, choose_threshold, scores_sha256, write_threshold
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.fits.fitting import FinishedFit, Trained, Trainer
from listenwell.judge.detectors import (
    AT_DEFAULT,
    Detector,
    Forms,
    Method,
    default_thresholds,
    detectors_of,
    fit_method,
    study_methods,
)
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.parallel import cancelling_pool, default_workers, one_thread_each
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.divide import DEV, Splits
from listenwell.splits.sealing import commit_thresholds, open_test_set
from listenwell.storage.atomic_files import remove_left_over
from listenwell.storage.load_or_make import Made, load_or_make, load_or_make_all, one_maker, require_files
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.loader import draw_some

SCORING_VERSION = 4
"""Part of what kept scores were made from; raised when a change of the code gives the same clips other scores."""


CALIBRATION = "calibration"
Tables = Mapping[str, Mapping[str, ScoreTable]]
"""Split (dev or a test set) -> method -> scores."""


@dataclass(frozen=True, slots=True)
class ChoosingScores:
    """Scores by method that choose the thresholds in place of dev's, and the forms of the classic detectors."""

    tables: Mapping[str, ScoreTable]
    forms: Forms


@dataclass(frozen=True, slots=True)
class Scored:
    """The score tables, by method its threshold, which dev chose, and of the main methods the default one; the form of
    every classic detector, which dev chose too."""

    tables: Tables
    thresholds: Mapping[str, Threshold]
    defaults: Mapping[str, float]
    forms: Forms

    @property
    def test_sets(self) -> list[str]:
        """The test sets in their order."""
        return [name for name in self.tables if name != DEV]


def score_study(
    config: Config,
    splits: Splits,
    trained: Trained,
    run: RunFolder,
    on_progress: OnProgress = ignore_progress,
    choosing: ChoosingScores | None = None,
) -> Scored:
    """Score dev, choose the baselines' forms, choose and commit the thresholds, score the test sets.

    choosing: of the methods that it scores, these scores stand in place of dev's.
    """

    def score(split: str, clips: Sequence[Clip], forms: Forms | None) -> tuple[dict[str, ScoreTable], Forms]:
        methods, model = study_methods(config, trained.model, trained.arms, forms), trained.model
        return score_split(methods, model, clips, splits.banks[split], config, run, split, on_progress)

    of_dev, forms = score(DEV, scored_clips(config, splits, DEV), choosing.forms if choosing else None)
    tables = {DEV: of_dev | dict(choosing.tables if choosing else {})}
    thresholds = {
        method: choose_threshold(table) for method, table in tables[DEV].items() if not method.endswith(AT_DEFAULT)
    }
    for method, threshold in thresholds.items():
        write_threshold(run.threshold(method), threshold)
    commit_thresholds(run, thresholds, identity(fits=list(trained.identities.values())))
    for name in splits.test_sets:
        open_test_set(run, name, splits.clips[name], thresholds)
        tables[name], _ = score(name, splits.clips[name], forms)
    return Scored(tables, thresholds, default_thresholds(config), forms)


def scored_clips(config: Config, splits: Splits, split: str) -> list[Clip]:
    """The clips of a split that a study scores: all, or calibration.clips of dev."""
    clips = splits.clips[split]
    return draw_some(clips, config.calibration.clips, config.seed) if split == DEV else clips


def score_split(
    methods: Sequence[Method],
    model: AudioLanguageModel,
    clips: Sequence[Clip],
    bank: BackgroundBank,
    config: Config,
    run: RunFolder,
    split: str,
    on_progress: OnProgress = ignore_progress,
) -> tuple[dict[str, ScoreTable], Forms]:
    """Method -> scores under evaluation.conditions; and the baselines' forms, these clips' choice of several."""
    made_from = {"methods": {method.name: method.made_from for method in methods}}
    load_or_make(run.score_identity(split), made_from, lambda: Made({}), ManifestError)  # which tables the set has
    of = {run.score_identity(f"{method.name}-{split}"): method for method in sorted(methods, key=lambda m: m.name)}
    conditions = config.evaluation.conditions
    kept = score_methods(of, model, clips, bank, conditions, config, on_progress, f"scoring {split}")
    forms = {of[note].name: form for note, (form, _) in kept.items() if form}
    return {of[note].name: table for note, (_, table) in kept.items()}, forms


def score_methods(
    methods: Mapping[Path, Method],
    model: AudioLanguageModel,
    clips: Sequence[Clip],
    bank: BackgroundBank,
    conditions: Sequence[str],
    config: Config,
    on_progress: OnProgress,
    stage: str,
) -> dict[Path, tuple[str, ScoreTable]]:
    """The form and the table of each method, by the note beside the table: read back, or scored with all others that
    are missing. Raises ManifestError where a table was changed.
    """
    of_clips = {
        "version": SCORING_VERSION,
        "clips": clip_hashes(clips),
        "backgrounds": bank.hashes,
        "conditions": list(conditions),
        "scoring.batch_seconds": config.scoring.batch_seconds,
        "short_clips.minimum_s": config.short_clips.minimum_s,  # of the study, by which all methods' batches are cut
        "seed": config.seed,
    }

    def make(missing: Sequence[Path]) -> dict[Path, Made]:
        detectors = detectors_of(model, [methods[note] for note in missing])
        scores = score_clips(detectors, clips, bank, conditions, config, on_progress, stage)
        chosen = {note: methods[note].choose(scores) for note in missing}
        return {note: made_table(note.with_suffix(".csv"), table, form=form) for note, (form, table) in chosen.items()}

    made_from = {note: {**method.made_from, **of_clips} for note, method in methods.items()}
    kept = load_or_make_all(made_from, make, ManifestError)
    return {note: (value["form"], read_scores(note.with_suffix(".csv"))) for note, value in kept.items()}


@dataclass(frozen=True, slots=True)
class Version:
    """One clip under one condition."""

    clip: Clip
    condition: str

    @property
    def duration_s(self) -> float:
        """How long the version is."""
        duration_ms = parse_condition(self.condition).duration_ms
        return self.clip.duration_s if duration_ms is None else min(self.clip.duration_s, duration_ms / 1000)


def score_clips(
    detectors: Sequence[Detector],
    clips: Sequence[Clip],
    bank: BackgroundBank,
    conditions: Sequence[str],
    config: Config,
    on_progress: OnProgress = ignore_progress,
    stage: str = "scoring",
) -> dict[str, ScoreTable]:
    """Score every clip under every condition; one table per method, its rows in the order of conditions, then clips.

    Raises AudioError when a clip cannot be read, ModelError when a score is not finite.
    """
    versions = [Version(clip, condition) for condition in conditions for clip in clips]
    batches = list(plan_batches(versions, config.scoring.batch_seconds, config.short_clips.minimum_s))
    scores: dict[str, dict[Version, float]] = {}

    def score_batch(batch: Sequence[Version]) -> dict[str, list[float]]:
        waveforms = [augment(version, bank, config.seed) for version in batch]
        scored = [detector.scores(waveforms) for detector in detectors]
        return {method: values.tolist() for of_detector in scored for method, values in of_detector.items()}

    n_done = 0
    workers = default_workers() if config.scoring.workers is None else config.scoring.workers
    with one_thread_each(), cancelling_pool(workers) as pool:
        for batch, scored in zip(batches, pool.map(score_batch, batches), strict=True):
            for method, values in scored.items():
                finite = {v: _finite(value, method, v) for v, value in zip(batch, values, strict=True)}
                scores.setdefault(method, {}).update(finite)
            n_done += len(batch)
            on_progress(stage, n_done, len(versions))
    return {method: _table(versions, of_versions) for method, of_versions in scores.items()}


def plan_batches(versions: Sequence[Version], batch_seconds: float, minimum_s: float) -> Iterator[list[Version]]:
    """Yield batches of similar length, longest first; a batch's clips times its longest stay below batch_seconds."""
    lasting = {version: max(version.duration_s, minimum_s) for version in versions}
    ordered = sorted(versions, key=lambda v: (-lasting[v], v.clip.clip_id, v.condition))
    batch: list[Version] = []
    for version in ordered:
        if batch and (len(batch) + 1) * lasting[batch[0]] > batch_seconds:
            yield batch
            batch = []
        batch.append(version)
    if batch:
        yield batch


def augment(version: Version, bank: BackgroundBank, seed: int) -> Waveform:
    """The waveform (n_samples,) of a version."""
    samples = load_waveform(version.clip)
    return apply_plan(samples, plan_condition(version.condition, version.clip, samples, bank, seed), bank.load)


def _finite(score: float, method: str, version: Version) -> float:
    if not np.isfinite(score):
        raise ModelError(
            f"clip '{version.clip.clip_id}' ({version.condition}): '{method}' gave the score {score}; a finite number "
            "was expected. Try model.dtype=float32, and check the weights."
        )
    return float(score)


def _table(versions: Sequence[Version], scores: dict[Version, float]) -> ScoreTable:
    snrs = [parse_condition(version.condition).snr_db for version in versions]
    return ScoreTable(
        clip_id=np.array([version.clip.clip_id for version in versions]),
        group=np.array([version.clip.group for version in versions]),
        label=np.array([version.clip.label for version in versions]),
        score=np.array([scores[version] for version in versions]),
        duration_ms=np.array([version.duration_s * 1000.0 for version in versions]),
        snr_db=np.array([np.nan if snr is None else snr for snr in snrs]),
        condition=np.array([version.condition for version in versions]),
    )


def score_fits(
    fits: Sequence[tuple[Config, FinishedFit]],
    trainer: Trainer,
    splits: Splits,
    split: str,
    conditions: Sequence[str],
    config: Config,
    name: str,
) -> dict[Path, ScoreTable]:
    """Return the score table of every fit on the clips of one split, by the fit's folder.

    Tables lie as scores/NAME.csv beside the fits; those missing are scored together, in turn by studies that
    share the ledger. Raises ManifestError where a table was changed.
    """
    methods = {
        fit.folder / "scores" / f"{name}.json": fit_method(str(fit.folder), fit_config, fit) for fit_config, fit in fits
    }
    with one_maker(trainer.run.fits):
        for note in methods:
            remove_left_over(note.parent)
        clips, bank, stage = splits.clips[split], splits.banks[split], f"scoring {split}"
        kept = score_methods(methods, trainer.model, clips, bank, conditions, config, trainer.on_progress, stage)
    return {note.parent.parent: table for note, (_, table) in kept.items()}


def keep_table(run: RunFolder, name: str, table: ScoreTable) -> None:
    """Keep a table, with its hash, as scores/NAME.csv."""
    made_from = {"scores": scores_sha256(table)}
    load_or_make(run.score_identity(name), made_from, lambda: made_table(run.scores(name), table), ManifestError)


def made_table(path: Path, table: ScoreTable, **value: Any) -> Made:
    """A score table, to be kept in the file at `path` with a value."""

    def write() -> list[Path]:
        write_scores(path, table)
        return [path]

    return Made(value, write)


def read_kept_scores(table: Path) -> ScoreTable:
    """Return the table after checking it against the hash in its note, which lies beside it.

    Raises ManifestError when one of them is missing, broken, or was changed.
    """
    note = table.with_suffix(".json")
    if table.is_file() and not note.is_file():
        raise ManifestError(f"{table}: is of an earlier run, no {note.name} lies beside it; score it again.")
    require_files(note, [table.name], ManifestError)
    return read_scores(table)
