"""What the score tables say: rows, comparisons, the ladder of arms, criteria, transfer, curves, probabilities, errors.

Everything is arithmetic on tables that were scored already, for the fine-tuned model at the threshold that dev chose;
every interval counts groups.

The ladder sets every arm beside the others, its seeds apart and pooled. An arm's number is the mean over its seeds; its
interval holds what the clips' groups and what the seeds leave open. An arm is compared with the first one on the same
clips, the seeds of both pooled, and the p values are corrected over the whole ladder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.config import Config
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import Threshold, scores_sha256
from listenwell.evaluate.comparison import (
    PairedDifference,
    compare_over_seeds,
    correct_together,
    name_contributions,
)
from listenwell.evaluate.intervals import (
    Metric,
    half_over_seeds,
    interval_over_seeds,
    seed_values,
)
from listenwell.evaluate.methods import (
    CALIBRATED,
    FINE_TUNED,
    NOISY,
    ZERO_SHOT,
    Comparison,
    JudgedMethod,
    Row,
    compare_methods,
    judge,
    versions,
)
from listenwell.evaluate.metrics import Floats, decide, roc_points
from listenwell.evaluate.power import Verdict, judge_criterion
from listenwell.evaluate.predictions import fit_curves
from listenwell.evaluate.probabilities import ProbabilityMap, choose_map, probability_metrics, reliability_table
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.transfer import LARGEST_SHIFT, measure_transfer
from listenwell.evaluate.traps import find_traps
from listenwell.fits.fitting import Trained, TrainedArm
from listenwell.fits.request import FINAL
from listenwell.judge.detectors import AT_DEFAULT, BASELINES
from listenwell.judge.errors import list_errors
from listenwell.judge.score import Scored, Tables
from listenwell.progress import OnProgress, ignore_progress
from listenwell.report.found import CriterionVerdict, Evidence, JudgedProbabilities, OperatingCurve, Probability
from listenwell.report.results import LEAVE_ONE_OUT, OUT_OF_CORPUS
from listenwell.report.trained import AgainstFirst, LadderRow, LeaveOneOut
from listenwell.splits.divide import DEV
from listenwell.storage.load_or_make import Made, hash_content, load_or_make
from listenwell.storage.run_folder import RunFolder
from listenwell.study_settings import EvaluationConfig, PrimaryConfig

BASE_MEETS_IT = "the base model, calibrated, meets it already, so it decides nothing"
EVIDENCE_VERSION = 7
"""Raised when a change of the code gathers something else from the same scores."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the scores show: rows and comparisons of the main table, the ladder of arms, the evidence."""

    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    ladder: Sequence[LadderRow]
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What leave-one-out found, each arm's records; judged: as a test set of its own, fine-tuned and its opponents."""

    records: Sequence[LeaveOneOut] = ()
    judged: Mapping[str, Sequence[JudgedMethod]] = field(default_factory=dict)


def judge_scores(
    config: Config,
    trained: Trained,
    scored: Scored,
    left_out: LeftOut,
    run: RunFolder,
    on_progress: OnProgress = ignore_progress,
) -> Judged:
    """Judge the study's scores; the evidence is read back where it was gathered from the same: its curves take long."""
    rows, comparisons = judge_methods(config.evaluation.primary, scored, left_out, config.seed, on_progress)
    ladder = judge_ladder(trained.arms, scored, config.seed)
    threshold = scored.thresholds[FINE_TUNED]
    made_from = {
        "version": EVIDENCE_VERSION,
        "scores": {
            split: {method: scores_sha256(table) for method, table in of.items()} for split, of in scored.tables.items()
        },
        "threshold": threshold.value,
        "rows": hash_content([asdict(row) for row in rows]),
        "leave one speaker out": hash_content([record.model_dump(mode="json") for record in left_out.records]),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "seed": config.seed,
    }

    def gather() -> Made:
        evidence = gather_evidence(
            config.evaluation, scored.tables, threshold, rows, left_out.records, config.seed, on_progress
        )
        return Made({"evidence": evidence.model_dump(mode="json")})

    evidence = Evidence.model_validate(load_or_make(run.evidence, made_from, gather)["evidence"])
    return Judged(rows, comparisons, ladder, evidence)


def check_primary(config: Config, test_sets: Sequence[str]) -> None:
    """Raise ConfigError for a primary test set that the study will not have; test_sets: those of its splits."""
    loo = config.leave_one_out
    known = [*test_sets, *(LEAVE_ONE_OUT.format(by) for by in loo.by if FINAL in loo.arms)]
    for name in config.evaluation.primary.test_sets:
        if name not in known:
            raise ConfigError(
                f"evaluation.primary.test_sets names '{name}', which is not tested; there are {', '.join(known)}. "
                f"Folds are tested where leave_one_out.arms names {FINAL}."
            )


def judge_methods(
    primary: PrimaryConfig,
    scored: Scored,
    left_out: LeftOut,
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> tuple[list[Row], list[Comparison]]:
    """Every row of the study's table, and the fine-tuned model against every other method."""
    order = [method for method in (FINE_TUNED, ZERO_SHOT, *BASELINES) if method in scored.defaults]
    test_sets: dict[str, Sequence[JudgedMethod]] = {
        test_set: [
            JudgedMethod(m, of[m], scored.defaults[m], scored.thresholds[m].value, of.get(m + AT_DEFAULT))
            for m in order
        ]
        for test_set, of in scored.tables.items()
        if test_set != DEV
    }
    unseen = OUT_OF_CORPUS if OUT_OF_CORPUS in test_sets else list(test_sets)[-1]
    test_sets |= left_out.judged
    # the base model's rows stand first
    ordered = {name: sorted(of, key=lambda method: method.name != ZERO_SHOT) for name, of in test_sets.items()}
    methods = [(method, test_set) for test_set, of in ordered.items() for method in of]
    rows = []
    for n_done, (method, test_set) in enumerate(methods, start=1):
        rows += judge(method, test_set, seed)
        on_progress("judging", n_done, len(methods))
    opponents = primary.opponents or tuple(method for method in order if method != FINE_TUNED)[:2]

    def is_primary(comparison: Comparison) -> bool:
        return (
            comparison.opponent in opponents
            and comparison.opponent_threshold == CALIBRATED
            and comparison.condition in primary.conditions
            and comparison.test_set in (primary.test_sets or (unseen,))
        )

    return rows, compare_methods(test_sets, is_primary, seed)


def gather_evidence(
    config: EvaluationConfig,
    tables: Tables,
    threshold: Threshold,
    rows: Sequence[Row],
    folds: Sequence[LeaveOneOut],
    seed: int,
    on_progress: OnProgress = ignore_progress,
) -> Evidence:
    """Return the evidence. folds: the records of leave-one-out, none if it did not run."""
    tests = {split: of[FINE_TUNED] for split, of in tables.items() if split != DEV}
    transfers = {name: measure_transfer(threshold, table, seed) for name, table in tests.items()}
    dev = tables[DEV][FINE_TUNED]
    chosen, dev_cllr = choose_map(dev.score, dev.is_speech, dev.group, seed)
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
            map=chosen,
            dev_cllr=dev_cllr,
            test_sets={name: _judge_probabilities(table, chosen) for name, table in tests.items()},
        ),
        operating_curves={
            name: _trace_curves(tables[name], list(dict.fromkeys(row.method for row in rows))) for name in tests
        },
        errors={name: list_errors(table, threshold) for name, table in tests.items()},
        traps={name: find_traps(table, threshold.value, threshold) for name, table in tests.items()},
    )


def _criterion(criterion: str, test_set: str, verdict: Verdict) -> CriterionVerdict:
    return CriterionVerdict(criterion=criterion, test_set=test_set, **asdict(verdict))


def _judge_rows(config: EvaluationConfig, rows: Sequence[Row]) -> list[CriterionVerdict]:
    """Balanced accuracy of the calibrated model, clean and noisy, against the least that was asked.

    A criterion that the base model meets already decides nothing, and says so.
    """
    least = {CLEAN: config.least_clean, NOISY: config.least_noisy}
    verdicts = {
        (row.method, row.test_set, row.condition): judge_criterion(row.metrics[0], least[row.condition])
        for row in rows
        if row.threshold == CALIBRATED and row.condition in least
    }
    judged = []
    for (method, test_set, condition), verdict in verdicts.items():
        if method != FINE_TUNED:
            continue
        if verdicts[ZERO_SHOT, test_set, condition].outcome == "met":
            verdict = replace(verdict, sentence=f"{verdict.sentence}; {BASE_MEETS_IT}")
        judged.append(_criterion(f"{condition} balanced accuracy at least {least[condition]:g}", test_set, verdict))
    return judged


def _judge_folds(config: EvaluationConfig, folds: Sequence[LeaveOneOut]) -> list[CriterionVerdict]:
    least = config.least_leave_one_out
    wanted = f"leave-one-out balanced accuracy at least {least:g}"
    if not folds:
        return [_criterion(wanted, "", Verdict("cannot tell", "not run: name arms in leave_one_out.arms"))]
    return [
        _criterion(f"{wanted} ({fold.arm}, by {fold.by})", "", judge_criterion(fold.metrics[0], least))
        for fold in folds
    ]


def _judge_probabilities(table: ScoreTable, chosen: ProbabilityMap) -> JudgedProbabilities:
    """The measures of every condition, and the reliability diagram's bins of the clean clips."""
    parts = versions(table)
    clean = parts[CLEAN]
    return JudgedProbabilities(
        metrics={
            condition: probability_metrics(chosen.probabilities(of.score), of.is_speech, of.group, chosen.prior)
            for condition, of in parts.items()
        },
        reliability=reliability_table(chosen.probabilities(clean.score), clean.is_speech, clean.group),
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


def judge_ladder(arms: Sequence[TrainedArm], scored: Scored, seed: int) -> list[LadderRow]:
    """One record per arm, test set and condition (clean, and all noisy ones together); a single fit makes none."""
    if len(arms) < 2:
        return []
    by_name: dict[str, list[TrainedArm]] = {}
    for arm in arms:
        by_name.setdefault(arm.arm.name, []).append(arm)
    cells = [(test_set, condition) for test_set in scored.test_sets for condition in (CLEAN, NOISY)]
    found = [rung for cell in cells for rung in _judge_condition(by_name, scored, *cell, seed)]
    later = [rung.contributions for rung in found if rung.against is not None]
    corrected = iter(correct_together(later, seed) if later else [])
    first = next(iter(by_name))
    return [
        LadderRow(
            arm=rung.arm,
            test_set=rung.test_set,
            condition=rung.condition,
            seeds=[arm.arm.seed for arm in by_name[rung.arm]],
            values=rung.values.tolist(),
            seed_half_width=half_over_seeds(rung.values),
            pooled=rung.pooled,
            against=rung.against and AgainstFirst(**asdict(rung.against), arm=first, p_adjusted=next(corrected)),
        )
        for rung in found
    ]


@dataclass(frozen=True, slots=True)
class _Rung:
    """A row of the ladder before its p value is corrected; contributions: of each group to the difference."""

    arm: str
    test_set: str
    condition: str
    values: Floats
    pooled: Metric
    against: PairedDifference | None
    contributions: Mapping[str, float]


def _judge_condition(
    arms: Mapping[str, Sequence[TrainedArm]], scored: Scored, test_set: str, condition: str, seed: int
) -> Iterator[_Rung]:
    says, tables = {}, {}
    for name, seeds in arms.items():
        cuts = [versions(scored.tables[test_set][arm.method]) for arm in seeds]
        if condition not in cuts[0]:
            return
        tables[name] = cuts[0][condition]
        thresholds = [scored.thresholds[arm.method].value for arm in seeds]
        says[name] = np.stack([decide(cut[condition].score, t) for cut, t in zip(cuts, thresholds, strict=True)])
    first = next(iter(arms))
    table = tables[first]
    right = {name: (of == table.is_speech) for name, of in says.items()}
    for name, of_seeds in right.items():
        is_first = name == first
        shares = (of_seeds.mean(axis=0), right[first].mean(axis=0), table.is_speech, table.group)
        yield _Rung(
            name, test_set, condition, seed_values(of_seeds.astype(np.float64), table.is_speech),
            interval_over_seeds(says[name], table.is_speech, table.group),
            None if is_first else compare_over_seeds(says[name], says[first], table.is_speech, table.group, seed),
            {} if is_first else {f"{test_set} {g}": share for g, share in name_contributions(*shares).items()},
        )  # fmt: skip
