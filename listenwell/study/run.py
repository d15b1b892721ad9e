"""A whole study in stages: divide, train, calibrate, score, leave out, judge, write. What is done already is reused.

The commands that train alone (train, search, cross-validate) are its first half, and a later study finds their fits.

Dev alone chooses: the best epoch and every threshold. The thresholds are committed to the seal before the first test
clip is scored, and the test sets are scored once, under all conditions, by all methods. Groups are left out after that,
since the folds may hold the tests' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from listenwell.baselines.vad import require_baselines
from listenwell.config import Config, config_beside
from listenwell.data.clip import Clip
from listenwell.data.test_set import count_licences, describe_classes
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.fits.fitting import FinishedFit, Trained, TrainedArm, Trainer, median_seed
from listenwell.fits.request import FINAL, FitRequest, expand_arms
from listenwell.judge.detectors import AT_DEFAULT, BASELINES
from listenwell.judge.errors import write_error_sounds
from listenwell.judge.evidence import Judged, LeftOut, check_primary, judge_scores
from listenwell.judge.score import Scored, score_study
from listenwell.model.loading import aligned_groups, describe_base, load_model
from listenwell.progress import OnProgress, StageClock, ignore_progress
from listenwell.report.trained import LeaveOneOut, Search
from listenwell.report.write import write_report
from listenwell.splits.divide import Splits, allocation, warnings_of
from listenwell.splits.gate import Divided, divide_study
from listenwell.splits.sealing import content_sha256, describe_seal
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import write_checksummed
from listenwell.storage.run_folder import RunFolder, alone_in_run, provenance
from listenwell.study.calibration import score_calibration
from listenwell.study.leave_one_out import folded_splits, leave_out, run_leave_one_out
from listenwell.study.results import Results
from listenwell.study.search import run_search
from listenwell.train.fit import FailedFit

TITLES = {"sealed_test": "Sealed test", "out_of_corpus": "Out of corpus", "test": "Test"}


@alone_in_run
def run_study(config: Config, on_progress: OnProgress = ignore_progress) -> Results:
    """Run the study and return its results, what results.json holds; report.html and report.md lie beside it."""
    require_baselines(config.evaluation.baselines)
    run, clock = RunFolder(config.output, config.ledger), StageClock(on_progress)
    divided = divide_study(config, run, clock.report)
    check_primary(config, divided.splits.test_sets)
    trainer = Trainer(load_model(config.model), run, clock.report)
    trained = train_fits(config, divided.splits, trainer)
    choosing = score_calibration(config, divided.splits, trained, trainer)
    scored = score_study(config, divided.splits, trained, run, clock.report, choosing)
    left_out = leave_out(config, divided.splits, trained, scored, run, clock.report)
    judged = judge_scores(config, trained, scored, left_out, run, clock.report)
    clock.count("judging")
    return write_study(config, divided, trained, scored, left_out, judged, run, clock.seconds)


def write_study(
    config: Config,
    divided: Divided,
    trained: Trained,
    scored: Scored,
    left_out: LeftOut,
    judged: Judged,
    run: RunFolder,
    seconds: Mapping[str, float],
) -> Results:
    """Write the sounds of the errors, results.json and the report; return the results.

    seconds: the wall time of this call by stage, for the provenance.
    """
    splits, delivered = divided.splits, trained.delivered
    short_clips = delivered.arm.config.short_clips
    write_error_sounds(judged.evidence.errors, splits, trained.model, short_clips, config.seed, run)
    final = [arm.fit for arm in trained.arms if arm.arm.name == FINAL and arm is not delivered]
    results = Results.model_validate({
        "name": config.output.name,
        "config": config_beside(config, run.root).model_dump(mode="json"),
        "model": {
            "name": config.model.name, "fingerprint": trained.model.fingerprint, **describe_base(config.model)
        },
        "allocation": allocation(splits),
        "backgrounds": [
            {"part": split, "kind": kind, "n": sum(entry.kind == kind for entry in bank.entries)}
            for split, bank in splits.banks.items()
            for kind in sorted({entry.kind for entry in bank.entries})
        ],
        "fits": [fit.record for fit in (delivered.fit, *final)],
        "failed_fits": list(trained.failed),
        "ladder": list(judged.ladder),
        "search": trained.searched,
        "leave_one_speaker_out": list(left_out.records),
        "thresholds": {method: scored.thresholds[method] for method in scored.defaults},
        "methods": {
            method: {
                "default_threshold": value,
                "kind": "classic" if method in BASELINES else "language_model",
                "form": scored.forms.get(method, ""),
                "form_at_default": scored.forms.get(method + AT_DEFAULT, ""),
            }
            for method, value in scored.defaults.items()
        },
        "rows": list(judged.rows),
        "comparisons": list(judged.comparisons),
        "evidence": judged.evidence,
        "leaks": divided.leaks,
        "test_sets": [_describe_test_set(name, splits.clips[name]) for name in splits.test_sets],
        "seal": describe_seal(run, {name: content_sha256(splits.clips[name]) for name in splits.test_sets}),
        "conditions": list(config.evaluation.conditions),
        "quarantine": [{"clip_id": clip.clip_id, "reason": clip.reason} for clip in divided.quarantine],
        "provenance": provenance() | {"seconds": {stage: round(value, 1) for stage, value in seconds.items()}},
        "warnings": [*warnings_of(splits), *warn_of_alignment(config, splits)],
    })  # fmt: skip
    write_checksummed(run.results, results.model_dump(mode="json"))
    write_report(results, run.root)
    return results


def warn_of_alignment(config: Config, splits: Splits) -> list[str]:
    """A warning for each test set, and for the folds, whose groups the base's alignment has heard."""
    heard = aligned_groups(config.model)
    tested = {f"Test set {name}": [name] for name in splits.test_sets}
    if config.leave_one_out.arms:
        tested["Leave one out"] = folded_splits(config, splits)
    warnings = []
    for what, names in tested.items():
        groups = {clip.group for name in names for clip in splits.clips[name]}
        if groups & heard:
            warnings.append(
                f"{what}: the base model was aligned on {len(groups & heard)} of the {len(groups)} groups tested; the "
                "base, and what was trained on it, would do worse on groups that neither has heard."
            )
    return warnings


@alone_in_run
def fit_alone(config: Config, on_progress: OnProgress = ignore_progress) -> FinishedFit:
    """Divide and fit, the first half of a study; a later study finds the fit done."""
    splits, trainer = _begin(config, on_progress)
    arms, _ = train_arms(config.model_copy(update={"arms": {}, "seeds": ()}), None, splits, trainer)
    return arms[0].fit


@alone_in_run
def search_alone(config: Config, on_progress: OnProgress = ignore_progress) -> Search:
    """Divide and search; the record is written to search.json. Test clips stay closed."""
    splits, trainer = _begin(config, on_progress)
    searched = run_search(config, trainer, splits)
    write_json(trainer.run.search, searched.model_dump(mode="json"))
    return searched


@alone_in_run
def leave_one_out_alone(config: Config, on_progress: OnProgress = ignore_progress) -> list[LeaveOneOut]:
    """Divide and leave every speaker out once, written to loso.json; the config itself where no arm is named.

    Raises ConfigError where the folds would hold the tests' groups: only a study opens these.
    """
    if config.leave_one_out.over == "all":
        raise ConfigError(
            "leave_one_out.over is all, which opens the tests; run the whole study, which commits its thresholds "
            "first, or set leave_one_out.over=pool."
        )
    splits, trainer = _begin(config, on_progress)
    if not config.leave_one_out.arms:
        config = config.model_copy(update={"leave_one_out": config.leave_one_out.model_copy(update={"arms": (FINAL,)})})
    # nested, every arm that refers to a search has one in each fold
    is_needed = config.search.is_wanted and config.leave_one_out.mode == "fixed"
    best = run_search(config, trainer, splits).best if is_needed else None
    records, _ = run_leave_one_out(config, best, trainer, splits)
    write_json(trainer.run.leave_one_out, [record.model_dump(mode="json") for record in records])
    return records


def _begin(config: Config, on_progress: OnProgress) -> tuple[Splits, Trainer]:
    """How every training command begins: readable splits that passed the gate, the model."""
    run = RunFolder(config.output, config.ledger)
    divided = divide_study(config, run, on_progress)
    return divided.splits, Trainer(load_model(config.model), run, on_progress)


def _describe_test_set(name: str, clips: Sequence[Clip]) -> dict[str, Any]:
    return {
        "name": name,
        "title": TITLES.get(name, name),
        "n_clips": len(clips),
        "n_groups": len({clip.group for clip in clips}),
        "classes": describe_classes(clips),
        "licences": count_licences(clips),
    }


def train_fits(config: Config, splits: Splits, trainer: Trainer) -> Trained:
    """Train, or read back, what the study needs; the median seed of the config itself is delivered."""
    searched = run_search(config, trainer, splits) if config.search.is_wanted else None
    best = searched.best if searched else None
    arms, failed = train_arms(config, best, splits, trainer)
    return Trained(trainer.model, arms, failed, searched)


def train_arms(
    config: Config, search_best: Mapping[str, Any] | None, splits: Splits, trainer: Trainer
) -> tuple[list[TrainedArm], list[dict[str, str]]]:
    """Every arm with every seed, trained or read back, and those that failed.

    Raises TrainingError when no fit of the config itself ended well: there is nothing to deliver.
    """
    arms = expand_arms(config, search_best)
    names = [FINE_TUNED if arm.name == FINAL else arm.fit_name for arm in arms]
    requests = [FitRequest(name, arm.config, splits, config) for name, arm in zip(names, arms, strict=True)]
    fits = list(zip(arms, trainer.fit_all(requests), strict=True))
    trained = [TrainedArm(arm, fit, arm.fit_name) for arm, fit in fits if isinstance(fit, FinishedFit)]
    failed = [{"name": arm.fit_name, "reason": fit.reason} for arm, fit in fits if isinstance(fit, FailedFit)]
    final = [arm for arm in trained if arm.arm.name == FINAL]
    if not final:
        raise TrainingError(" ".join(record["reason"] for record in failed))
    delivered = median_seed(final)
    return [replace(arm, method=FINE_TUNED) if arm is delivered else arm for arm in trained], failed
