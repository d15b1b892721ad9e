"""A whole study: divide, fit, score, calibrate, judge, report. What is done already is reused, stage by stage.

Dev alone chooses: the best epoch and every threshold. The thresholds are committed to the seal before the first test
clip is scored, and the test sets are scored once, under all conditions, by all methods.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from listenwell.baselines.extra import require_baselines
from listenwell.baselines.silero import SILERO_VAD, SileroVad
from listenwell.baselines.webrtc import WebRtcVad
from listenwell.config import Config, config_beside, dump_beside
from listenwell.data.clip import Clip, clip_hashes
from listenwell.data.fetch.wheel_files import fetch_weight_file
from listenwell.data.test_set import ChosenClip, DataSheet, sheet_to_json
from listenwell.errors import ManifestError, TrainingError
from listenwell.evaluate.calibration import Threshold, choose_threshold, write_threshold
from listenwell.evaluate.methods import Comparison, JudgedMethod, Row, compare, judge
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.fits.arms import FINAL, Arm, expand_arms
from listenwell.fits.fitting import FinishedFit, fit_all
from listenwell.fits.request import FitRequest
from listenwell.judge.detectors import (
    FINE_TUNED,
    ZERO_SHOT,
    Baseline,
    BaselineDetector,
    Detector,
    language_model_detectors,
)
from listenwell.judge.errors import write_error_sounds
from listenwell.judge.evidence import EVIDENCE_VERSION, gather_evidence
from listenwell.judge.expected_precision import expect_precision
from listenwell.judge.ladder import judge_ladder, median_seed
from listenwell.judge.score import SCORING_VERSION, score_clips
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.loading import describe_base, load_model
from listenwell.model.lora import Adapter
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.write import write_report
from listenwell.splits.clips import Unreadable, read_parts, write_quarantine
from listenwell.splits.divide import DEV, Parts, allocation, warnings_of, with_stored_backgrounds, with_talkers
from listenwell.splits.gate import pass_gate
from listenwell.splits.sealing import commit_thresholds, content_sha256, describe_seal, open_test_set
from listenwell.storage.atomic_files import write_json, write_text
from listenwell.storage.cache import cache_root
from listenwell.storage.journal import Journal
from listenwell.storage.load_or_make import Made, hash_content, load_or_make, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity, provenance
from listenwell.storage.run_lock import alone_in_run
from listenwell.study.leave_one_out import run_loso
from listenwell.study.search import run_search
from listenwell.train.fit import FailedFit
from listenwell.train.fit_underway import Progress

LANGUAGE_MODEL_DEFAULT = 0.0
"""Both answers equally likely."""
BASELINES: Mapping[str, Callable[[], Baseline]] = {
    "silero": lambda: SileroVad(fetch_weight_file(SILERO_VAD, cache_root())),
    "webrtc": WebRtcVad,
}
TITLES = {"sealed_test": "Sealed test", "out_of_corpus": "Out of corpus", "test": "Test"}


@alone_in_run
def run_study(config: Config, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Run the study and return its results, the content of results.json; report.html and report.md lie beside it."""
    require_baselines(config.evaluation.baselines)
    run = RunFolder(config.output, config.ledger)
    parts, quarantine = _divide_readable(config, run, on_progress)
    leaks = pass_gate(config, parts, run.leaks, on_progress)
    write_text(run.config, dump_beside(config, run.root))
    write_json(run.allocation, allocation(parts))
    model = load_model(config.model)
    on_step = _as_progress(on_progress)
    searched = run_search(config, model, parts, run, on_step, on_progress) if config.search.is_wanted else None
    fits, failed = _fit_arms(config, searched, model, parts, run, on_step)
    delivered_arm, delivered = median_seed([(arm, fit) for arm, fit in fits if arm.name == FINAL])
    method_of = {arm.fit_name: FINE_TUNED if arm is delivered_arm else arm.fit_name for arm, _ in fits}
    detectors, defaults = _detectors(config, model, [(method_of[arm.fit_name], arm, fit) for arm, fit in fits])
    made_by = {method_of[arm.fit_name]: fit.record["identity"] for arm, fit in fits}
    tables: dict[str, dict[str, ScoreTable]] = {}
    thresholds: dict[str, Threshold] = {}
    for part in (DEV, *parts.test_sets):
        if part != DEV:
            open_test_set(run, part, parts.clips[part], thresholds)
        tables[part] = _score_part(part, config, parts, detectors, made_by, run, on_progress)
        if part == DEV:
            thresholds = {method: choose_threshold(table) for method, table in tables[DEV].items()}
            for method, threshold in thresholds.items():
                write_threshold(run.threshold(method), threshold)
            commit_thresholds(run, thresholds, identity(fits=list(made_by.values())))
    rows, comparisons = judge_all(tables, thresholds, defaults, parts.test_sets, config.seed, on_progress)
    ladder = judge_ladder(fits, tables, thresholds, method_of, parts.test_sets, config.seed)
    best = searched["best"] if searched else None
    by_speaker = run_loso(config, best, model, parts, run, on_step, on_progress) if config.loso.arms else []
    evidence = _evidence(config, tables, thresholds[FINE_TUNED], rows, comparisons, by_speaker, run, on_progress)
    write_error_sounds(evidence["errors"], parts, model, delivered_arm.config.short_clips, config.seed, run)
    results = {
        "name": config.output.name,
        "config": config_beside(config, run.root).model_dump(mode="json"),
        "model": {"name": config.model.name, "fingerprint": model.fingerprint, **describe_base(config.model)},
        "allocation": allocation(parts),
        "backgrounds": _count_backgrounds(parts),
        "fits": [delivered.record, *(fit.record for arm, fit in fits if arm.name == FINAL and fit is not delivered)],
        "failed_fits": failed,
        "ladder": ladder,
        "search": searched,
        "leave_one_speaker_out": by_speaker,
        "thresholds": {method: asdict(thresholds[method]) for method in defaults},
        "methods": {
            method: {"default_threshold": value, "kind": "classic" if method in BASELINES else "language_model"}
            for method, value in defaults.items()
        },
        "rows": [asdict(row) for row in rows],
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "evidence": evidence,
        "leaks": leaks,
        "test_sets": [_describe_test_set(name, parts.clips[name]) for name in parts.test_sets],
        "seal": describe_seal(run, {name: content_sha256(parts.clips[name]) for name in parts.test_sets}),
        "conditions": list(config.evaluation.conditions),
        "quarantine": [{"clip_id": u.clip_id, "reason": u.reason} for u in quarantine],
        "provenance": provenance(),
        "warnings": warnings_of(parts),
    }
    write_checksummed(run.results, results)
    write_report(results, run.root)
    return results


@alone_in_run
def fit_alone(config: Config, on_progress: OnProgress = ignore_progress) -> FinishedFit:
    """Divide and fit, the first half of a study; a later study finds the fit done."""
    run, parts, model = _begin(config, on_progress)
    alone = config.model_copy(update={"arms": {}, "seeds": ()})
    ((_, finished),), _ = _fit_arms(alone, None, model, parts, run, _as_progress(on_progress))
    return finished


@alone_in_run
def search_alone(config: Config, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Divide and search; the record is written to search.json. Test clips stay closed."""
    run, parts, model = _begin(config, on_progress)
    found = run_search(config, model, parts, run, _as_progress(on_progress), on_progress)
    write_json(run.search, found)
    return found


@alone_in_run
def loso_alone(config: Config, on_progress: OnProgress = ignore_progress) -> list[dict[str, Any]]:
    """Divide and leave every speaker out once, written to loso.json; the config itself where no arm is named."""
    run, parts, model = _begin(config, on_progress)
    if not config.loso.arms:
        config = config.model_copy(update={"loso": config.loso.model_copy(update={"arms": (FINAL,)})})
    on_step = _as_progress(on_progress)
    # nested, every arm that refers to a search has one in each fold
    is_needed = config.search.is_wanted and config.loso.mode == "fixed"
    searched = run_search(config, model, parts, run, on_step, on_progress) if is_needed else None
    records = run_loso(config, searched["best"] if searched else None, model, parts, run, on_step, on_progress)
    write_json(run.loso, records)
    return records


def _begin(config: Config, on_progress: OnProgress) -> tuple[RunFolder, Parts, AudioLanguageModel]:
    """How every training command begins: readable parts that passed the gate, the config on disk, the model."""
    run = RunFolder(config.output, config.ledger)
    parts, _ = _divide_readable(config, run, on_progress)
    pass_gate(config, parts, run.leaks, on_progress)
    write_text(run.config, dump_beside(config, run.root))
    return run, parts, load_model(config.model)


def _fit_arms(
    config: Config,
    searched: dict[str, Any] | None,
    model: AudioLanguageModel,
    parts: Parts,
    run: RunFolder,
    on_step: Callable[[Progress], None],
) -> tuple[list[tuple[Arm, FinishedFit]], list[dict[str, str]]]:
    """Every arm with every seed, trained or read back, and those that failed.

    Raises TrainingError when no fit of the config itself ended well: there is nothing to deliver.
    """
    arms = expand_arms(config, searched["best"] if searched else None)
    names = [FINE_TUNED if arm.name == FINAL else arm.fit_name for arm in arms]
    requests = [FitRequest(name, arm.config, parts, config) for name, arm in zip(names, arms, strict=True)]
    results = list(zip(arms, fit_all(requests, model, run, on_step), strict=True))
    done = [(arm, fit) for arm, fit in results if isinstance(fit, FinishedFit)]
    failed = [{"name": arm.fit_name, "reason": fit.reason} for arm, fit in results if isinstance(fit, FailedFit)]
    if all(arm.name != FINAL for arm, _ in done):
        raise TrainingError(" ".join(each["reason"] for each in failed))
    return done, failed


def _divide_readable(config: Config, run: RunFolder, on_progress: OnProgress) -> tuple[Parts, list[Unreadable]]:
    """The parts of the readable clips; the others go to the quarantine list."""
    parts, unreadable = read_parts(config, on_progress)
    write_quarantine(run.quarantine("study"), unreadable)
    if config.data.store_backgrounds:
        parts = with_stored_backgrounds(parts, cache_root(), on_progress)
    return with_talkers(parts) if _uses_babble(config) else parts, unreadable


def _uses_babble(config: Config) -> bool:
    """True when the config or one of its arms mixes other speakers under a clip."""
    key = "augment.babble.probability"
    changed = any(key in each for each in config.arms.values()) or config.search.may_change(key)
    return config.augment.babble.probability > 0 or changed


def _as_progress(on_progress: OnProgress) -> Callable[[Progress], None]:
    return lambda progress: on_progress(f"training {progress.name}", progress.step, progress.n_steps)


def _detectors(
    config: Config, model: AudioLanguageModel, fits: list[tuple[str, Arm, FinishedFit]]
) -> tuple[list[Detector], dict[str, float]]:
    """Every method of the study, and the default thresholds of those that stand in its main tables."""
    asked: list[tuple[str, Config, Adapter | None]] = [(ZERO_SHOT, config, None)]
    asked += [(method, arm.config, fit.adapter) for method, arm, fit in fits]
    baselines = [BASELINES[name]() for name in config.evaluation.baselines]
    defaults = {ZERO_SHOT: LANGUAGE_MODEL_DEFAULT, FINE_TUNED: LANGUAGE_MODEL_DEFAULT}
    defaults |= {baseline.name: baseline.default_threshold for baseline in baselines}
    return [*language_model_detectors(model, asked), *(BaselineDetector(baseline) for baseline in baselines)], defaults


def _score_part(
    part: str,
    config: Config,
    parts: Parts,
    detectors: list[Detector],
    made_by: Mapping[str, str],
    run: RunFolder,
    on_progress: OnProgress,
) -> dict[str, ScoreTable]:
    """The score tables of one part, read back when they were made from the same things."""
    note = run.score_identity(part)
    made_from = {
        "version": SCORING_VERSION,
        "fits": dict(made_by),
        "clips": clip_hashes(parts.clips[part]),
        "backgrounds": parts.banks[part].hashes,
        "evaluation": config.evaluation.model_dump(mode="json", include={"conditions", "baselines"}),
        "scoring.batch_seconds": config.scoring.batch_seconds,
        "seed": config.seed,
    }

    def make() -> Made:
        journal = Journal(run.score_journal(part), identity(**made_from))
        tables = score_clips(
            detectors, parts.clips[part], parts.banks[part], config.evaluation.conditions, config, on_progress,
            f"scoring {part}", journal,
        )  # fmt: skip

        def write() -> list[Path]:
            for method, table in tables.items():
                write_scores(run.scores(f"{method}-{part}"), table)
            return [run.scores(f"{method}-{part}") for method in sorted(tables)]

        return Made({"methods": sorted(tables)}, write)

    methods = load_or_make(note, made_from, make, ManifestError)["methods"]
    run.score_journal(part).unlink(missing_ok=True)
    return {method: read_scores(run.scores(f"{method}-{part}")) for method in methods}


def judge_all(
    tables: Mapping[str, Mapping[str, ScoreTable]],
    thresholds: Mapping[str, Threshold],
    defaults: Mapping[str, float],
    test_sets: list[str],
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> tuple[list[Row], list[Comparison]]:
    """Every row of the study's table, and the fine-tuned model against every other method."""
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    order = [method for method in (ZERO_SHOT, FINE_TUNED, *BASELINES) if method in defaults]
    for n_done, test_set in enumerate(test_sets):
        judged = {m: JudgedMethod(m, tables[test_set][m], defaults[m], thresholds[m]) for m in order}
        for n_judged, method in enumerate(order):
            rows += judge(judged[method], test_set, seed)
            on_progress("judging", n_done * len(order) + n_judged + 1, len(test_sets) * len(order))
        opponents = [judged[method] for method in order if method != FINE_TUNED]
        comparisons += compare(judged[FINE_TUNED], opponents, test_set, seed)
    return rows, comparisons


def _evidence(
    config: Config,
    tables: Mapping[str, Mapping[str, ScoreTable]],
    threshold: Threshold,
    rows: list[Row],
    comparisons: list[Comparison],
    by_speaker: list[dict[str, Any]],
    run: RunFolder,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """The evidence, read back when it was gathered from the same scores: its curves take a minute."""
    made_from = {
        "version": EVIDENCE_VERSION,
        "scores": {part: {method: table.sha256 for method, table in own.items()} for part, own in tables.items()},
        "threshold": threshold.value,
        "rows": hash_content([asdict(row) for row in rows]),
        "comparisons": hash_content([asdict(comparison) for comparison in comparisons]),
        "leave one speaker out": hash_content(by_speaker),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "seed": config.seed,
    }
    gathered = load_or_make(
        run.evidence,
        made_from,
        lambda: Made(
            {
                "evidence": gather_evidence(
                    config.evaluation, tables, threshold, rows, comparisons, by_speaker, config.seed, on_progress
                )
            }
        ),
    )
    found: dict[str, Any] = gathered["evidence"]
    return found


def _count_backgrounds(parts: Parts) -> list[dict[str, Any]]:
    return [
        {"part": part, "kind": kind, "n": sum(entry.kind == kind for entry in bank.entries)}
        for part, bank in parts.banks.items()
        for kind in sorted({entry.kind for entry in bank.entries})
    ]


def _describe_test_set(name: str, clips: list[Clip]) -> dict[str, Any]:
    groups = {clip.group for clip in clips}
    title = TITLES[name] if name in TITLES else name
    chosen = [ChosenClip(clip, f"every clip of split '{name}' is tested") for clip in clips]
    sheet = sheet_to_json(DataSheet({}, chosen, expect_precision(chosen)))
    return {
        "name": name, "title": title, "n_clips": len(clips), "n_groups": len(groups), "sheet": sheet,
    }  # fmt: skip
