"""What the score tables say: rows, comparisons, the ladder of arms, criteria, transfer, curves, probabilities, errors.

Everything is arithmetic on tables that were scored already, for the fine-tuned model at the threshold that dev chose;
every interval counts groups.

The ladder sets every arm beside the others, its seeds apart. An arm's number is the mean over its seeds. Two things
make it uncertain and both are shown: the seeds (t interval over their values: at three seeds 2.48 standard deviations)
and the clips (the interval of the median seed by dev loss). An arm is compared with the first one by their median
seeds, on the same clips.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from listenwell.augment.conditions import CLEAN
from listenwell.config import Config
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import compare_balanced_accuracy, holm
from listenwell.evaluate.intervals import balanced_accuracy_interval, proportion
from listenwell.evaluate.methods import (
    CALIBRATED,
    FINE_TUNED,
    NOISY,
    ZERO_SHOT,
    Comparison,
    JudgedMethod,
    Row,
    compare,
    judge,
    versions,
)
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_points
from listenwell.evaluate.power import Verdict, judge_criterion
from listenwell.evaluate.predictions import fit_curves
from listenwell.evaluate.probabilities import ProbabilityMap, fit_platt, probability_metrics, reliability_table
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.shares import CONFIDENCE
from listenwell.evaluate.transfer import LARGEST_SHIFT, measure_transfer
from listenwell.evaluate.traps import find_traps
from listenwell.fits.fitting import Trained, TrainedArm, median_seed
from listenwell.judge.detectors import BASELINES
from listenwell.judge.errors import list_errors
from listenwell.judge.score import Scored, Tables
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.results import (
    AgainstFirst,
    Corrected,
    CriterionVerdict,
    Evidence,
    JudgedProbabilities,
    LadderRow,
    LeaveOneOut,
    OperatingCurve,
    Probability,
    ReliabilityBin,
)
from listenwell.splits.divide import DEV
from listenwell.storage.load_or_make import Made, hash_content, load_or_make
from listenwell.storage.run_folder import RunFolder
from listenwell.study_settings import EvaluationConfig

EVIDENCE_VERSION = 3
"""Raised when a change of the code gathers something else from the same scores."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the scores show: rows and comparisons of the main table, the ladder of arms, the evidence."""

    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    ladder: Sequence[LadderRow]
    evidence: Evidence


def judge_scores(
    config: Config, trained: Trained, scored: Scored, run: RunFolder, on_progress: OnProgress = ignore_progress
) -> Judged:
    """Judge the study's scores; the evidence is read back where it was gathered from the same: its curves take long."""
    rows, comparisons = judge_methods(scored, config.seed, on_progress)
    ladder = judge_ladder(trained.arms, scored, config.seed)
    threshold = scored.thresholds[FINE_TUNED]
    made_from = {
        "version": EVIDENCE_VERSION,
        "scores": {
            split: {method: table.sha256 for method, table in of.items()} for split, of in scored.tables.items()
        },
        "threshold": threshold.value,
        "rows": hash_content([asdict(row) for row in rows]),
        "comparisons": hash_content([asdict(comparison) for comparison in comparisons]),
        "leave one speaker out": hash_content([record.model_dump(mode="json") for record in trained.folds]),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "seed": config.seed,
    }

    def gather() -> Made:
        evidence = gather_evidence(
            config.evaluation, scored.tables, threshold, rows, comparisons, trained.folds, config.seed, on_progress
        )
        return Made({"evidence": evidence.model_dump(mode="json")})

    evidence = Evidence.model_validate(load_or_make(run.evidence, made_from, gather)["evidence"])
    return Judged(rows, comparisons, ladder, evidence)


def judge_methods(
    scored: Scored, seed: int, on_progress: OnProgress = ignore_progress
) -> tuple[list[Row], list[Comparison]]:
    """Every row of the study's table, and the fine-tuned model against every other method."""
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    order = [method for method in (ZERO_SHOT, FINE_TUNED, *BASELINES) if method in scored.defaults]
    n_done, n_methods = 0, len(scored.test_sets) * len(order)
    for test_set in scored.test_sets:
        tables = scored.tables[test_set]
        judged = {m: JudgedMethod(m, tables[m], scored.defaults[m], scored.thresholds[m]) for m in order}
        for method in judged.values():
            rows += judge(method, test_set, seed)
            n_done += 1
            on_progress("judging", n_done, n_methods)
        opponents = [judged[method] for method in order if method != FINE_TUNED]
        comparisons += compare(judged[FINE_TUNED], opponents, test_set, seed)
    return rows, comparisons


def gather_evidence(
    config: EvaluationConfig,
    tables: Tables,
    threshold: Threshold,
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    folds: Sequence[LeaveOneOut],
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> Evidence:
    """Return the evidence. folds: the records of leave-one-out, none if it did not run."""
    tests = {split: of[FINE_TUNED] for split, of in tables.items() if split != DEV}
    transfers = {name: measure_transfer(threshold, table, seed) for name, table in tests.items()}
    platt = fit_platt(tables[DEV][FINE_TUNED].score, tables[DEV][FINE_TUNED].is_speech)
    curves = {}
    for n_done, (name, table) in enumerate(tests.items(), start=1):
        curves[name] = fit_curves(table, threshold.value, seed)
        on_progress("fitting curves", n_done, len(tests))
    within = f"threshold transfer within ±{LARGEST_SHIFT:g} logits"
    return Evidence(
        criteria=[
            *_judge_rows(config, rows),
            *_judge_folds(config, folds),
            *(_criterion(within, name, transfer.verdict) for name, transfer in transfers.items()),
        ],
        transfer=transfers,
        curves=curves,
        probability=Probability(
            platt=platt, test_sets={name: _judge_probabilities(table, platt, seed) for name, table in tests.items()}
        ),
        operating_curves={
            name: _trace_curves(tables[name], list(dict.fromkeys(row.method for row in rows))) for name in tests
        },
        holm=_correct(comparisons),
        errors={name: list_errors(table, threshold) for name, table in tests.items()},
        traps={name: find_traps(table, threshold.value, threshold) for name, table in tests.items()},
    )


def _criterion(criterion: str, test_set: str, verdict: Verdict) -> CriterionVerdict:
    return CriterionVerdict(criterion=criterion, test_set=test_set, **asdict(verdict))


def _judge_rows(config: EvaluationConfig, rows: Sequence[Row]) -> list[CriterionVerdict]:
    """Balanced accuracy of the calibrated model, clean and noisy, against the least that was asked."""
    least = {CLEAN: config.least_clean, NOISY: config.least_noisy}
    return [
        _criterion(
            f"{row.condition} balanced accuracy at least {least[row.condition]:g}",
            row.test_set,
            judge_criterion(row.metrics[0], least[row.condition]),
        )
        for row in rows
        if row.method == FINE_TUNED and row.threshold == CALIBRATED and row.condition in least
    ]


def _judge_folds(config: EvaluationConfig, folds: Sequence[LeaveOneOut]) -> list[CriterionVerdict]:
    least = config.least_leave_one_out
    wanted = f"leave-one-speaker-out balanced accuracy at least {least:g}"
    if not folds:
        return [_criterion(wanted, "", Verdict("cannot tell", "not run: name arms in leave_one_out.arms"))]
    return [_criterion(f"{wanted} ({arm.arm})", "", judge_criterion(arm.metrics[0], least)) for arm in folds]


def _judge_probabilities(table: ScoreTable, platt: ProbabilityMap, seed: int) -> JudgedProbabilities:
    """Brier score, log-loss and calibration error of clean clips, and the reliability diagram's bins, each with the
    interval of its share of speech over groups."""
    clean = table.select(table.condition == CLEAN)
    probability = platt.probabilities(clean.score)
    bins = []
    for of_bin in reliability_table(probability, clean.is_speech):
        inside = (probability >= of_bin.low) & ((probability < of_bin.high) | (of_bin.high == 1.0))
        share = proportion("speech", clean.is_speech[inside], clean.group[inside])
        bins.append(ReliabilityBin(**asdict(of_bin), share_low=share.low, share_high=share.high))
    return JudgedProbabilities(
        metrics=probability_metrics(probability, clean.is_speech, clean.group, seed), reliability=bins
    )


def _trace_curves(tables: Mapping[str, ScoreTable], methods: Sequence[str]) -> list[OperatingCurve]:
    """The corners of each method's operating curve, clean and in noise, as counts of clips called speech."""
    curves = []
    for method in methods:
        for condition, table in versions(tables[method]).items():
            if condition not in (CLEAN, NOISY):
                continue
            n_speech = int(table.is_speech.sum())
            n_other = len(table) - n_speech
            fpr, tpr = roc_points(table.score, table.is_speech)
            counts = np.rint(np.stack([fpr * n_other, tpr * n_speech], 1)).astype(np.int64)
            # a point on the straight line between its neighbours is left out
            before, after = np.diff(counts, axis=0)[:-1], np.diff(counts, axis=0)[1:]
            turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
            corners = counts[np.concatenate([[True], turns, [True]])]
            curves.append(
                OperatingCurve(
                    method=method,
                    condition=condition,
                    n_speech=n_speech,
                    n_other=n_other,
                    false_alarms=corners[:, 0].tolist(),
                    hits=corners[:, 1].tolist(),
                )
            )
    return curves


def _correct(comparisons: Sequence[Comparison]) -> list[Corrected]:
    """Holm's correction; the declared family: every opponent, test set and condition of the study's comparisons."""
    corrected = holm([comparison.result.p_value for comparison in comparisons])
    return [
        Corrected(
            opponent=comparison.opponent,
            test_set=comparison.test_set,
            condition=comparison.condition,
            p_value=comparison.result.p_value,
            p_holm=p_holm,
        )
        for comparison, p_holm in zip(comparisons, corrected, strict=True)
    ]


def judge_ladder(arms: Sequence[TrainedArm], scored: Scored, seed: int) -> list[LadderRow]:
    """One record per arm, test set and condition (clean, and all noisy ones together); a single fit makes none."""
    if len(arms) < 2:
        return []
    cells = [(test_set, condition) for test_set in scored.test_sets for condition in (CLEAN, NOISY)]
    return [record for cell in cells for record in _judge_condition(arms, scored, *cell, seed)]


def _judge_condition(
    arms: Sequence[TrainedArm], scored: Scored, test_set: str, condition: str, seed: int
) -> Iterator[LadderRow]:
    tables = {arm.method: versions(scored.tables[test_set][arm.method]) for arm in arms}
    if condition not in tables[arms[0].method]:
        return
    table = tables[arms[0].method][condition]
    decided = {method: decide(cut[condition].score, scored.thresholds[method].value) for method, cut in tables.items()}
    by_name: dict[str, list[TrainedArm]] = {}
    for arm in arms:
        by_name.setdefault(arm.arm.name, []).append(arm)
    typical = {name: decided[median_seed(seeds).method] for name, seeds in by_name.items()}
    first = arms[0].arm.name
    for name, seeds in by_name.items():
        values = [balanced_accuracy(decided[arm.method], table.is_speech) for arm in seeds]
        against = compare_balanced_accuracy(typical[name], typical[first], table.is_speech, table.group, seed)
        yield LadderRow(
            arm=name,
            test_set=test_set,
            condition=condition,
            seeds=[arm.arm.seed for arm in seeds],
            values=values,
            mean=float(np.mean(values)),
            seed_half_width=_half_width(values),
            median_seed=balanced_accuracy_interval(typical[name], table.is_speech, table.group),
            against=None if name == first else AgainstFirst(arm=first, **asdict(against)),
        )


def _half_width(values: Sequence[float]) -> float | None:
    """Half of the t interval of the mean over seeds; None with one seed."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / sqrt(len(values)))
