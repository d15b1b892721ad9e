"""What the score tables say beyond the main table: criteria, transfer, curves, probabilities, errors, traps.

Everything is arithmetic on tables that were scored already, for the fine-tuned model at the threshold that dev chose;
the values are JSON (the `evidence` part of results.json) and every interval counts groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.calibration import Threshold, choose_threshold
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.judgement import fit_curves
from listenwell.evaluate.methods import CALIBRATED, NOISY, Comparison, Row
from listenwell.evaluate.metrics import Bools, decide
from listenwell.evaluate.probabilities import fit_platt, probability_metrics, reliability_table
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.settings import EvaluationConfig
from listenwell.evaluate.significance import holm
from listenwell.evaluate.transfer import LARGEST_SHIFT, measure_transfer
from listenwell.evaluate.traps import find_traps
from listenwell.evaluate.verdicts import Verdict, judge_criterion
from listenwell.progress import OnProgress, ignore_progress
from listenwell.study.detectors import FINE_TUNED
from listenwell.study.parts import DEV

N_WORST = 20
EVIDENCE_VERSION = 1
"""Raised when a change of the code gathers something else from the same scores."""

Tables = Mapping[str, Mapping[str, ScoreTable]]
"""Part -> method -> table."""


def gather_evidence(
    config: EvaluationConfig,
    tables: Tables,
    threshold: Threshold,
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    by_speaker: Sequence[Mapping[str, Any]],
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Return the evidence as JSON values. by_speaker: the records of leave-one-speaker-out, none if it did not run."""
    tests = {part: own[FINE_TUNED] for part, own in tables.items() if part != DEV}
    transfers = {name: asdict(measure_transfer(threshold, table, seed)) for name, table in tests.items()}
    platt = fit_platt(tables[DEV][FINE_TUNED].score, tables[DEV][FINE_TUNED].is_speech)
    return {
        "criteria": [
            *_judge_rows(config, rows),
            *_judge_speakers(config, by_speaker),
            *(
                {
                    "criterion": f"threshold transfer within ±{LARGEST_SHIFT:g} logits",
                    "test_set": name,
                    **found["verdict"],
                }
                for name, found in transfers.items()
            ),
        ],
        "transfer": transfers,
        "curves": _fit_all_curves(tests, threshold.value, seed, on_progress),
        "probability": {
            "platt": asdict(platt),
            "test_sets": {
                name: _judge_probabilities(table, platt.probabilities, seed) for name, table in tests.items()
            },
        },
        "holm": _correct(comparisons),
        "errors": {name: _list_errors(name, tables, threshold) for name in tests},
        "traps": {name: find_traps(table, threshold.value, threshold) for name, table in tests.items()},
    }


def _fit_all_curves(
    tests: Mapping[str, ScoreTable], threshold: float, seed: int, on_progress: OnProgress
) -> dict[str, list[dict[str, Any]]]:
    curves = {}
    for n_done, (name, table) in enumerate(tests.items(), start=1):
        curves[name] = [asdict(curve) for curve in fit_curves(table, threshold, seed)]
        on_progress("fitting curves", n_done, len(tests))
    return curves


def _judge_rows(config: EvaluationConfig, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Balanced accuracy of the calibrated model, clean and noisy, against the least that was asked."""
    least = {CLEAN: config.least_clean, NOISY: config.least_noisy}
    return [
        {
            "criterion": f"{row.condition} balanced accuracy at least {least[row.condition]:g}",
            "test_set": row.test_set,
            **asdict(judge_criterion(row.metrics[0], least[row.condition])),
        }
        for row in rows
        if row.method == FINE_TUNED and row.threshold == CALIBRATED and row.condition in least
    ]


def _judge_speakers(config: EvaluationConfig, by_speaker: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not by_speaker:
        verdict = Verdict("cannot tell", "not run: name arms in loso.arms")
        return [{"criterion": _loso_criterion(config), "test_set": "", **asdict(verdict)}]
    return [
        {
            "criterion": f"{_loso_criterion(config)} ({record['arm']})",
            "test_set": "",
            **asdict(judge_criterion(Metric(**record["metrics"][0]), config.least_loso)),
        }
        for record in by_speaker
    ]


def _loso_criterion(config: EvaluationConfig) -> str:
    return f"leave-one-speaker-out balanced accuracy at least {config.least_loso:g}"


def _judge_probabilities(table: ScoreTable, to_probability: Any, seed: int) -> dict[str, Any]:
    """Brier score, log-loss and calibration error of clean clips, and the reliability diagram's bins."""
    clean = table.select(table.condition == CLEAN)
    probability = to_probability(clean.score)
    return {
        "metrics": [asdict(m) for m in probability_metrics(probability, clean.is_speech, clean.group, seed)],
        "reliability": [asdict(b) for b in reliability_table(probability, clean.is_speech)],
    }


def _correct(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Holm's correction; the declared family: every opponent, test set and condition of the study's comparisons."""
    corrected = holm([comparison.result.p_value for comparison in comparisons])
    return [
        {
            "opponent": comparison.opponent,
            "test_set": comparison.test_set,
            "condition": comparison.condition,
            "p_value": comparison.result.p_value,
            "p_holm": p_holm,
        }
        for comparison, p_holm in zip(comparisons, corrected, strict=True)
    ]


def _list_errors(part: str, tables: Tables, threshold: Threshold) -> dict[str, Any]:
    """Clean errors by group, and the worst ones by how far they lie beyond the threshold, with who else erred."""
    clean = {method: table.select(table.condition == CLEAN) for method, table in tables[part].items()}
    ours = clean[FINE_TUNED]
    is_wrong = decide(ours.score, threshold.value) != ours.is_speech
    groups = []
    for group in sorted(set(ours.group.tolist())):
        inside = ours.group == group
        n_wrong = int(is_wrong[inside].sum())
        record = {"group": group, "label": str(ours.label[inside][0]), "n": int(inside.sum()), "n_wrong": n_wrong}
        groups.append(record)
    beyond = np.where(is_wrong, np.abs(ours.score - threshold.value), -1.0)
    worst = [int(i) for i in np.argsort(-beyond, kind="stable")[:N_WORST] if is_wrong[i]]
    return {
        "n": len(ours),
        "n_wrong": int(is_wrong.sum()),
        "groups": sorted(groups, key=lambda each: (-each["n_wrong"] / each["n"], each["group"])),
        "worst": [
            {
                "clip_id": str(ours.clip_id[i]),
                "group": str(ours.group[i]),
                "label": str(ours.label[i]),
                "score": float(ours.score[i]),
                "beyond": float(beyond[i]),
            }
            for i in worst
        ],
        "agreement": _agree(clean, is_wrong, tables),
    }


def _agree(clean: Mapping[str, ScoreTable], is_wrong: Bools, tables: Tables) -> list[dict[str, Any]]:
    """Against every other method at its own dev threshold: what only we get right, what only they do."""
    found = []
    for method, table in sorted(clean.items()):
        if method == FINE_TUNED:
            continue
        theirs = decide(table.score, choose_threshold(tables[DEV][method]).value) != table.is_speech
        found.append(
            {
                "method": method,
                "both_right": int((~is_wrong & ~theirs).sum()),
                "only_ours_right": int((~is_wrong & theirs).sum()),
                "only_theirs_right": int((is_wrong & ~theirs).sum()),
                "both_wrong": int((is_wrong & theirs).sum()),
            }
        )
    return found
