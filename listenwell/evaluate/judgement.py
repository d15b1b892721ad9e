"""Everything that is said about one score table: measures by condition, curves, parts, a verdict, warnings."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import Part, PartMetric, summarise, summarise_parts, versions
from listenwell.evaluate.metrics import Costs
from listenwell.evaluate.power import Verdict, judge_criterion
from listenwell.evaluate.predictions import Predictions
from listenwell.evaluate.probabilities import ProbabilityMap, ReliabilityBin, reliability_table
from listenwell.evaluate.psychometric import (
    FEWEST_LEVELS,
    TARGETS,
    Measure,
    PsychometricCurve,
    fit_curve,
    levels_of,
)
from listenwell.evaluate.ranking import EQUAL_COSTS
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.transfer import Transfer, measure_transfer
from listenwell.evaluate.traps import find_traps, warn_dropped_rows
from listenwell.progress import OnProgress, ignore_progress

CURVE_MEASURES: tuple[Measure, ...] = ("recall", "balanced_accuracy")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a table: at which threshold (and its record), against which target, cut by what.

    target: least balanced accuracy, None for no verdict; expected: clip ids that should have been scored.
    """

    threshold: float
    chosen: Threshold | None = None
    platt: ProbabilityMap | None = None
    target: float | None = None
    costs: Costs = EQUAL_COSTS
    parts: tuple[Part, ...] = ()
    expected: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer; metrics and verdicts by condition; transfer and reliability over all rows.

    transfer: None where the threshold has no record of how dev chose it.
    """

    threshold: float
    metrics: dict[str, list[Metric]]
    verdicts: dict[str, Verdict]
    transfer: Transfer | None
    curves: list[PsychometricCurve]
    parts: dict[str, list[PartMetric]]
    reliability: list[ReliabilityBin]
    warnings: list[str]


def judge_predictions(
    predictions: Predictions, question: Question, seed: int, on_progress: OnProgress = ignore_progress
) -> Judgement:
    """Answer `question`. Raises ManifestError when a class is missing under a condition."""
    table = predictions.table
    to_probability = question.platt.probabilities if question.platt else predictions.to_probability
    metrics, parts = {}, versions(table)
    for done, (condition, part) in enumerate(parts.items()):
        on_progress("measuring conditions", done, len(parts))
        metrics[condition] = summarise(part, question.threshold, seed, to_probability, question.costs)
    on_progress("measuring conditions", len(parts), len(parts))
    verdicts = {}
    if question.target is not None:
        verdicts = {condition: judge_criterion(found[0], question.target) for condition, found in metrics.items()}
    warnings = find_traps(table, question.threshold, question.chosen)
    if question.expected:
        warnings += [each for each in warn_dropped_rows(table, question.expected) if each not in warnings]
    return Judgement(
        question.threshold,
        metrics,
        verdicts,
        measure_transfer(question.chosen, table, seed, predictions.to_logit) if question.chosen else None,
        fit_curves(table, question.threshold, seed),
        {part: summarise_parts(table, question.threshold, part) for part in question.parts},
        reliability_table(to_probability(table.score), table.is_speech),
        [each for each in (predictions.note, *warnings) if each],
    )


def fit_curves(table: ScoreTable, threshold: float, seed: int) -> list[PsychometricCurve]:
    """Return the curves over duration and SNR, of whichever enough levels were scored."""
    curves = []
    for over in TARGETS:
        levels = levels_of(table, over)
        if np.unique(levels[np.isfinite(levels)]).size >= FEWEST_LEVELS:
            curves += [fit_curve(table, threshold, over, measure, seed) for measure in CURVE_MEASURES]
    return curves
