"""results.json as one typed tree: what a study found, from the clips of each split to the worst errors.

`Results` is the whole file; its fields are the keys of the file, and a validated tree dumps to the same values. Its
parts stand in `listenwell.report.trained` and `listenwell.report.found`; what the measures return (rows, comparisons,
thresholds, curves) are the records of `listenwell.evaluate` themselves. Knows nothing of how anything looks or is
called.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from listenwell.augment.conditions import CLEAN, match_condition
from listenwell.errors import ListenwellError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import CALIBRATED, DEFAULT, FINE_TUNED, NOISY, Comparison, Row
from listenwell.report.found import Evidence, Leaks, Method, Seal, TestSet, Unreadable
from listenwell.report.trained import (
    Allocation,
    BackgroundCount,
    BaseModelRecord,
    FailedFit,
    Fit,
    LadderRow,
    LeaveOneOut,
    Node,
    Search,
)
from listenwell.storage.run_folder import RunFolder, read_kept_results

OUT_OF_CORPUS, SEALED = "out_of_corpus", "sealed_test"
LEAVE_ONE_OUT = "leave_one_{}_out"
"""What the folds of one arm are called where they are judged as a test set."""
HELD_OUT = {"group": "speaker", "corpus": "corpus", "category": "category"}
"""What leave_one_out.by holds out, in words."""


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
