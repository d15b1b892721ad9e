"""results.json as one typed tree: what a study found, from the clips of each split to the worst errors.

`Results` is the whole file; its fields are the keys of the file, and a validated tree dumps to the same values. What
the measures return (rows, comparisons, thresholds, curves) are the records of `listenwell.evaluate` themselves. Knows
nothing of how anything looks or is called.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from listenwell.augment.conditions import CLEAN, match_condition
from listenwell.data.check.leaks import Finding
from listenwell.data.test_set import SheetClass
from listenwell.errors import ListenwellError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import Outcome, PairedDifference, outcome_of
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import (
    CALIBRATED,
    DEFAULT,
    FINE_TUNED,
    NOISY,
    Comparison,
    PartMetric,
    Row,
)
from listenwell.evaluate.power import Verdict
from listenwell.evaluate.probabilities import ProbabilityMap, ReliabilityBin
from listenwell.evaluate.psychometric import PsychometricCurve
from listenwell.evaluate.transfer import Transfer
from listenwell.storage.run_folder import RunFolder, read_kept_results

OUT_OF_CORPUS, SEALED = "out_of_corpus", "sealed_test"
LEAVE_ONE_OUT = "leave_one_{}_out"
"""What the folds of one arm are called where they are judged as a test set."""
HELD_OUT = {"group": "speaker", "corpus": "corpus", "category": "category"}
"""What leave_one_out.by holds out, in words."""


class Node(BaseModel):
    """A part of the tree: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelRecord(Node):
    """The base model; description: what it was made of; hub_ids: the models of the hub that it is, or was made of."""

    name: str
    fingerprint: str
    is_starter_base: bool
    description: dict[str, Any]
    hub_ids: list[str] = []


class Allocation(Node):
    """Clips of one label in one split."""

    part: str
    label: str
    n_clips: int
    groups: list[str]
    n_groups: int
    categories: int


class BackgroundCount(Node):
    """Background recordings of one kind in one split."""

    part: str
    kind: str
    n: int


class Epoch(Node):
    """What training and dev measured after one epoch; losses in nats per clip."""

    epoch: int
    step: int
    train_loss: float
    dev_loss: float
    gap: float
    dev_balanced_accuracy_at_0: float
    dev_auc: float
    learning_rate: float


class Fit(Node):
    """One adapter; overfitting: a sentence, "" where there was none."""

    name: str
    identity: str
    seed: int
    best_epoch: int
    n_steps: int
    lora_modules: dict[str, int]
    history: list[Epoch]
    overfitting: str


class FailedFit(Node):
    """A fit that ended without an adapter."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstFirst(PairedDifference):
    """An arm minus the first arm, balanced accuracy, the seeds of both pooled; corrected over the whole ladder."""

    arm: str
    p_adjusted: float

    @property
    def outcome(self) -> Outcome:
        """Better or worse where the interval and the corrected p value both say so."""
        return outcome_of(self, self.p_adjusted)


class LadderRow(Node):
    """One arm of the ladder on one test set under one condition.

    values: balanced accuracy of each seed; seed_half_width: half of their t interval, None where it has no estimate;
    pooled: their mean, its interval over groups and seeds.
    """

    arm: str
    test_set: str
    condition: str
    seeds: list[int]
    values: list[float]
    seed_half_width: float | None
    pooled: Metric
    against: AgainstFirst | None


class Point(Node):
    """A point of the search that was trained whole."""

    changes: dict[str, Any]
    objective: float
    dev_loss: float
    dev_auc: float
    best_epoch: int
    n_steps: int
    identity: str


class Optimism(Node):
    """By how much choosing flatters the chosen; None where groups are too few to tell."""

    chosen: float | None
    left_out: float | None
    optimism: float | None


class Search(Node):
    """The search, its points ranked by dev.

    failed, dropped: points whose fit failed, or ended at a rung. n_steps: of the optimiser, and what they would be had
    none ended at a rung. sampled: what a sampled search learned.
    """

    ranked: list[Point]
    best: dict[str, Any]
    failed: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    n_steps: dict[Literal["trained", "trained_whole"], int]
    optimism: Optimism
    n_dev_clips: int
    n_dev_groups: int
    sampled: dict[str, Any] | None


class HeldOut(Node):
    """How the clips of a held-out speaker, and the other sounds held out beside it, were decided."""

    speaker: str
    n_speech: int
    n_nonspeech: int
    recall: float
    specificity: float
    balanced_accuracy: float


class HeldOutSpeaker(HeldOut):
    """One speaker of a fold."""

    fold: str


class HeldOutFold(HeldOut):
    """One fold, decided at its own threshold."""

    threshold: float


class FailedFold(Node):
    """A fold whose fit failed."""

    speaker: str
    reason: str


class LeaveOneOut(Node):
    """Leave-one-out of one arm, by group or by corpus; chosen: fold -> settings that a nested search found.

    gap: by corpus, what a foreign corpus costs: by group minus by corpus on the same clips, where both ran.
    """

    arm: str
    by: str
    gap: PairedDifference | None
    metrics: list[Metric]
    mean: Metric
    mean_of_folds: float
    sd_of_folds: float
    folds: list[HeldOutFold]
    speakers: list[HeldOutSpeaker]
    failed: list[FailedFold]
    mode: str
    chosen: dict[str, dict[str, Any]]
    n_leaks: int


class Method(Node):
    """A method of the main tables.

    form, form_at_default: how a classic detector makes a clip's score, as dev chose for its threshold of dev and for
    its default; "" for the others.
    """

    form: str
    form_at_default: str
    default_threshold: float
    kind: Literal["language_model", "classic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionVerdict(Verdict):
    """A success criterion, judged; test_set: "" for the study pool."""

    criterion: str
    test_set: str


class JudgedProbabilities(Node):
    """Brier score, Cllr, minCllr and actDCF by condition; the reliability of clean clips."""

    metrics: dict[str, list[Metric]]
    reliability: list[ReliabilityBin]


class Probability(Node):
    """The map to probabilities that dev chose, by the cross-fitted Cllr of each, judged on each test set."""

    map: ProbabilityMap
    dev_cllr: dict[str, float]
    test_sets: dict[str, JudgedProbabilities]


class OperatingCurve(Node):
    """The corners of a method's ROC, as counts."""

    method: str
    condition: str
    n_speech: int
    n_other: int
    false_alarms: list[int]
    hits: list[int]


class GroupErrors(Node):
    """Errors on the clean clips of a group; right: share of right decisions with its interval."""

    group: str
    label: str
    n: int
    n_wrong: int
    right: float
    low: float
    high: float


class WrongClip(Node):
    """A clip decided wrongly; beyond: from the threshold to its score."""

    clip_id: str
    group: str
    label: str
    condition: str
    score: float
    beyond: float


class Errors(Node):
    """Errors of the fine-tuned model on one test set; heard: those to listen to, under any condition.

    worst: the hardest group of each condition and label.
    """

    n: int
    n_wrong: int
    groups: list[GroupErrors]
    heard: list[WrongClip]
    worst: dict[str, list[PartMetric]]


class Evidence(Node):
    """What the scores say beyond the main table; dicts are by test set."""

    criteria: list[CriterionVerdict]
    transfer: dict[str, Transfer]
    curves: dict[str, list[PsychometricCurve]]
    probability: Probability
    operating_curves: dict[str, list[OperatingCurve]]
    errors: dict[str, Errors]
    traps: dict[str, list[str]]


class Leaks(Node):
    """The report of the leak gate; n_clips, n_backgrounds: by split; search: settings of the audio search."""

    verdict: Literal["clean", "leaks", "incomplete"]
    n_leaks: int
    findings: list[Finding]
    n_clips: dict[str, int]
    n_backgrounds: dict[str, int]
    n_pairs: int
    unreadable: list[str]
    search: dict[str, Any]


class TestSet(Node):
    """A test set, what the report calls it, and how many clips it has of each licence."""

    __test__ = False  # pytest collects what begins with Test

    name: str
    title: str
    n_clips: int
    n_groups: int
    classes: list[SheetClass]
    licences: dict[str, int]


class Seal(Node):
    """Whether the thresholds stood before the first look at the tests.

    entries: the lines of its log; test_sets: name -> hash of its clips; earlier: looks at the same test set by other
    runs on this machine (test_set, time, run).
    """

    verdict: Literal["sealed", "reopened", "unsealed"]
    reason: str
    head: str
    entries: list[dict[str, Any]]
    test_sets: dict[str, str]
    earlier: list[dict[str, str]]


class Unreadable(Node):
    """A clip left out because it could not be read."""

    clip_id: str
    reason: str


class Results(Node):
    """Everything a study found; dicts named thresholds and methods are by method."""

    name: str
    config: dict[str, Any]
    model: BaseModelRecord
    allocation: list[Allocation]
    backgrounds: list[BackgroundCount]
    fits: list[Fit]
    failed_fits: list[FailedFit]
    ladder: list[LadderRow]
    search: Search | None
    leave_one_speaker_out: list[LeaveOneOut]
    thresholds: dict[str, Threshold]
    methods: dict[str, Method]
    rows: list[Row]
    comparisons: list[Comparison]
    evidence: Evidence
    leaks: Leaks
    test_sets: list[TestSet]
    seal: Seal
    conditions: list[str]
    quarantine: list[Unreadable]
    provenance: dict[str, Any]
    warnings: list[str]

    @property
    def unseen(self) -> TestSet:
        """The test set that answers "does it generalise": the out-of-corpus one, or the last when there is none."""
        return next((test_set for test_set in self.test_sets if test_set.name == OUT_OF_CORPUS), self.test_sets[-1])

    @property
    def judged_sets(self) -> list[str]:
        """The names of the test sets, and those of the folds that were judged as one."""
        return distinct(row.test_set for row in self.rows)

    @property
    def headline(self) -> str:
        """Where the answers are read off: the folds that leave a corpus out, or a speaker where these were declared
        primary, or else the unseen test set."""
        by_corpus, by_group = map(LEAVE_ONE_OUT.format, ("corpus", "group"))
        if by_corpus in self.judged_sets:
            return by_corpus
        is_declared = any(comparison.is_primary for comparison in self.comparisons if comparison.test_set == by_group)
        return by_group if is_declared else self.unseen.name

    def title_of(self, test_set: str) -> str:
        """What a test set, or the folds that were judged as one, is called in the report."""
        titles = {LEAVE_ONE_OUT.format(by): f"Leave one {what} out" for by, what in HELD_OUT.items()}
        return titles.get(test_set) or next(known.title for known in self.test_sets if known.name == test_set)

    def folds_of(self, by: str) -> LeaveOneOut | None:
        """The folds of the config itself that leave one out by group or corpus, None where they did not run."""
        found = [record for record in self.leave_one_speaker_out if (record.arm, record.by) == ("final", by)]
        return found[0] if found else None

    def rows_of(self, test_set: str, condition: str) -> list[Row]:
        """All methods at all thresholds under one condition."""
        return [row for row in self.rows if (row.test_set, row.condition) == (test_set, condition)]

    def conditions_of(self, test_set: str) -> list[str]:
        """The conditions a test set was judged under, "noisy" among them, in the order of the rows."""
        return distinct(row.condition for row in self.rows if row.test_set == test_set)

    def n_versions(self, test_set: str, condition: str) -> int:
        """How many versions of each clip a condition's rows hold: one, or every SNR."""
        if condition != NOISY:
            return 1
        return sum(getattr(match_condition(each), "snr_db", None) is not None for each in self.conditions_of(test_set))

    def headline_conditions(self, test_set: str) -> list[str]:
        """Clean, and noisy where there is noise."""
        return [condition for condition in (CLEAN, NOISY) if condition in self.conditions_of(test_set)]

    def row(self, method: str, threshold: str, test_set: str, condition: str) -> Row:
        """How a method does at a threshold under a condition."""
        key = (method, threshold)
        return next(row for row in self.rows_of(test_set, condition) if (row.method, row.threshold) == key)

    def delivered_rows(self, test_set: str) -> list[Row]:
        """The fine-tuned model at its calibrated threshold, under every condition."""
        key = (FINE_TUNED, CALIBRATED, test_set)
        return [row for row in self.rows if (row.method, row.threshold, row.test_set) == key]

    def comparison(self, opponent: str, test_set: str, condition: str, threshold: str = CALIBRATED) -> Comparison:
        """The fine-tuned model against an opponent at one of its thresholds under a condition."""
        key = (opponent, threshold, test_set, condition)
        return next(c for c in self.comparisons if (c.opponent, c.opponent_threshold, c.test_set, c.condition) == key)

    def shown_methods(self) -> list[tuple[str, str]]:
        """(method, threshold) of every row."""
        return [(method, threshold) for method in self.methods for threshold in (DEFAULT, CALIBRATED)]

    def better_threshold(self, method: str, test_set: str, conditions: Sequence[str]) -> str:
        """The threshold at which an opponent scores higher over these conditions; ours is the calibrated one."""
        if method == FINE_TUNED:
            return CALIBRATED

        def level(threshold: str) -> float:
            return sum(metric_of(self.row(method, threshold, test_set, each)).value for each in conditions)

        return max((CALIBRATED, DEFAULT), key=level)


def read_results(run: RunFolder) -> Results:
    """Return the results of a finished study. Raises ListenwellError where there are none, or of another version."""
    return parse_results(read_kept_results(run), str(run.results))


def parse_results(record: dict[str, Any], place: str) -> Results:
    """Return the results that a file's content holds. Raises ListenwellError naming the first place that differs."""
    try:
        return Results.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ListenwellError(
            f"{place}: no results of a study by this version of listenwell ('{where}': {first['msg'].lower()}); run "
            "'listenwell study' again with this version; fits of the same recipe are read back."
        ) from error


def metric_of(row: Row, name: str = "balanced_accuracy") -> Metric:
    """One measure of a row."""
    return next(metric for metric in row.metrics if metric.name == name)


def distinct(values: Iterable[str]) -> list[str]:
    """The values without repetitions, in order."""
    return list(dict.fromkeys(values))
