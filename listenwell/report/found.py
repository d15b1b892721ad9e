"""What results.json says of the tests: methods, the evidence that their scores give, leak gate, seal, test sets.

Dicts of the evidence are by test set.
"""

from dataclasses import dataclass
from typing import Any, Literal

from listenwell.data.check.leaks import Finding
from listenwell.data.test_set import SheetClass
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import PartMetric
from listenwell.evaluate.power import Verdict
from listenwell.evaluate.probabilities import ProbabilityMap, ReliabilityBin
from listenwell.evaluate.psychometric import PsychometricCurve
from listenwell.evaluate.transfer import Transfer
from listenwell.report.trained import Node


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
    """What the scores say beyond the main table."""

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
