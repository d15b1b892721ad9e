"""A whole study: divide, fit, score, calibrate, judge, report. What is done already is reused, stage by stage.

Dev alone chooses: the best epoch and every threshold. A threshold is written before the first test clip is scored,
and the test sets are scored once, under all conditions, by all methods.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from listenwell.atomic_files import write_json, write_text
from listenwell.baselines.silero import SILERO_VAD, SileroVad
from listenwell.baselines.webrtc import WebRtcVad
from listenwell.cache import cache_root
from listenwell.config import Config, dump
from listenwell.data.clip import Clip
from listenwell.data.wheel_files import fetch_weight_file
from listenwell.evaluate.calibration import Threshold, choose_threshold, write_threshold
from listenwell.evaluate.methods import Comparison, JudgedMethod, Row, compare, judge
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.model.loading import describe_base, load_model
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.write import write_report
from listenwell.run_folder import RunFolder, identity, provenance
from listenwell.study.detectors import (
    FINE_TUNED,
    ZERO_SHOT,
    Baseline,
    BaselineDetector,
    Detector,
    LanguageModelDetector,
)
from listenwell.study.fitting import FinishedFit, fit, read_json
from listenwell.study.parts import DEV, Parts, allocation, divide
from listenwell.study.prepare import prepare
from listenwell.study.score import Unreadable, score_clips, set_aside_unreadable, write_quarantine
from listenwell.train.fit import Progress

LANGUAGE_MODEL_DEFAULT = 0.0
"""Both answers equally likely."""
BASELINES: Mapping[str, Callable[[], Baseline]] = {
    "silero": lambda: SileroVad(fetch_weight_file(SILERO_VAD, cache_root())),
    "webrtc": WebRtcVad,
}
TITLES = {"sealed_test": "Sealed test", "out_of_corpus": "Out of corpus", "test": "Test"}


def run_study(config: Config, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Run the study and return its results, the content of results.json; report.html and report.md lie beside it."""
    run = RunFolder(config.output)
    parts, quarantine = _divide_readable(config, run, on_progress)
    write_text(run.config, dump(config))
    write_json(run.allocation, allocation(parts))
    model = load_model(config.model)
    finished = fit(config, model, parts, run, _as_progress(on_progress))
    detectors, defaults = _detectors(config, model, finished)
    tables: dict[str, dict[str, ScoreTable]] = {}
    thresholds: dict[str, Threshold] = {}
    for part in (DEV, *parts.test_sets):
        tables[part] = _score_part(part, config, parts, detectors, finished, run, on_progress)
        if part == DEV:
            thresholds = {method: choose_threshold(table) for method, table in tables[DEV].items()}
            for method, threshold in thresholds.items():
                write_threshold(run.threshold(method), threshold)
    rows, comparisons = judge_all(tables, thresholds, defaults, parts.test_sets, config.seed, on_progress)
    results = {
        "name": config.output.name,
        "config": config.model_dump(mode="json"),
        "model": {"name": config.model.name, "fingerprint": model.fingerprint, **describe_base(config.model)},
        "allocation": allocation(parts),
        "backgrounds": _count_backgrounds(parts),
        "fits": [finished.record],
        "thresholds": {method: asdict(threshold) for method, threshold in thresholds.items()},
        "methods": {
            method: {"default_threshold": value, "kind": "classic" if method in BASELINES else "language_model"}
            for method, value in defaults.items()
        },
        "rows": [asdict(row) for row in rows],
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "test_sets": [_describe_test_set(name, parts.clips[name]) for name in parts.test_sets],
        "conditions": list(config.evaluation.conditions),
        "quarantine": [{"clip_id": u.clip_id, "reason": u.reason} for u in quarantine],
        "provenance": provenance(),
        "warnings": warnings_of(parts),
    }
    write_json(run.results, results)
    write_report(results, run.root)
    return results


def fit_alone(config: Config, on_progress: OnProgress = ignore_progress) -> FinishedFit:
    """Divide and fit, the first half of a study; a later study finds the fit done."""
    run = RunFolder(config.output)
    parts, _ = _divide_readable(config, run, on_progress)
    write_text(run.config, dump(config))
    return fit(config, load_model(config.model), parts, run, _as_progress(on_progress))


def _divide_readable(config: Config, run: RunFolder, on_progress: OnProgress) -> tuple[Parts, list[Unreadable]]:
    """The parts of the readable clips; the others go to the quarantine list."""
    clips, backgrounds = prepare(config, on_progress)
    readable, unreadable = set_aside_unreadable(clips, config.data.quarantine_share, on_progress)
    write_quarantine(run.quarantine("study"), unreadable)
    return divide(readable, backgrounds, config.data), unreadable


def _as_progress(on_progress: OnProgress) -> Callable[[Progress], None]:
    return lambda progress: on_progress(f"training {progress.name}", progress.step, progress.n_steps)


def _detectors(config: Config, model: Any, finished: FinishedFit) -> tuple[list[Detector], dict[str, float]]:
    """Every method of the study, and its default threshold."""
    language_model = LanguageModelDetector(
        model,
        config.prompt,
        config.short_clips,
        {ZERO_SHOT: None, FINE_TUNED: finished.adapter},
        config.scoring.batch_seconds,
    )
    baselines = [BASELINES[name]() for name in config.evaluation.baselines]
    defaults = {ZERO_SHOT: LANGUAGE_MODEL_DEFAULT, FINE_TUNED: LANGUAGE_MODEL_DEFAULT}
    defaults |= {baseline.name: baseline.default_threshold for baseline in baselines}
    return [language_model, *(BaselineDetector(baseline) for baseline in baselines)], defaults


def _score_part(
    part: str,
    config: Config,
    parts: Parts,
    detectors: list[Detector],
    finished: FinishedFit,
    run: RunFolder,
    on_progress: OnProgress,
) -> dict[str, ScoreTable]:
    """The score tables of one part, read back when they were made from the same things."""
    made_from = identity(
        fit=finished.record["identity"],
        clips=[[c.clip_id, c.label, c.group, c.pcm_sha256 or str(c.path)] for c in parts.clips[part]],
        backgrounds=[[b.background_id, b.pcm_sha256] for b in parts.banks[part].entries],
        evaluation=config.evaluation.model_dump(mode="json"),
        batch_seconds=config.scoring.batch_seconds,
    )
    note = run.score_identity(part)
    if note.is_file() and (noted := read_json(note))["made_from"] == made_from:
        return {method: read_scores(run.scores(f"{method}-{part}")) for method in noted["methods"]}
    scored = score_clips(
        detectors, parts.clips[part], parts.banks[part], config.evaluation.conditions, config, on_progress,
        f"scoring {part}",
    )  # fmt: skip
    for method, table in scored.tables.items():
        write_scores(run.scores(f"{method}-{part}"), table)
    write_json(note, {"made_from": made_from, "methods": sorted(scored.tables)})
    return {method: scored.tables[method] for method in sorted(scored.tables)}


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


def _count_backgrounds(parts: Parts) -> list[dict[str, Any]]:
    return [
        {"part": part, "kind": kind, "n": sum(entry.kind == kind for entry in bank.entries)}
        for part, bank in parts.banks.items()
        for kind in sorted({entry.kind for entry in bank.entries})
    ]


def _describe_test_set(name: str, clips: list[Clip]) -> dict[str, Any]:
    groups = {clip.group for clip in clips}
    title = TITLES[name] if name in TITLES else name
    return {"name": name, "title": title, "n_clips": len(clips), "n_groups": len(groups), "note": ""}


def warnings_of(parts: Parts) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    for part, clips in parts.clips.items():
        sizes: dict[str, int] = {}
        for clip in clips:
            sizes[clip.group] = sizes.setdefault(clip.group, 0) + 1
        if len(sizes) == len(clips) > 1:
            found.append(
                f"{part}: every clip is its own group; if several clips come from one speaker or source, the intervals "
                "are too narrow and the parts may share speakers."
            )
    return found
