"""The results of a study as records: what results.json holds, read back for tables and figures.

A study may lack comparisons, baselines or a learning curve; what is not there is an empty list and is left out of the
report. Knows nothing of how anything looks or is called.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from listenwell.augment.conditions import match_condition
from listenwell.errors import ListenwellError
from listenwell.evaluate.comparison import PairedDifference
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import CALIBRATED, DEFAULT, Comparison, Row

NEEDED = ("name", "model", "methods", "test_sets", "rows")
OPTIONAL: dict[str, Any] = {
    "config": {},
    "allocation": [],
    "backgrounds": [],
    "fits": [],
    "thresholds": {},
    "comparisons": [],
    "quarantine": [],
    "provenance": {},
    "warnings": [],
    "ladder": [],
    "search": None,
    "leave_one_speaker_out": [],
    "failed_fits": [],
    "leaks": None,
    "seal": None,
    "evidence": None,
}
OUT_OF_CORPUS = "out_of_corpus"
ZERO_SHOT, FINE_TUNED, CLEAN = "zero-shot", "fine-tuned", "clean"
CHANCE = 0.5
"""Balanced accuracy and ROC AUC of guessing."""


@dataclass(frozen=True, slots=True)
class StudyResults:
    """results.json; `raw` holds the parts that are only printed (model, fits, thresholds, provenance, ...)."""

    raw: Mapping[str, Any]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the study."""
        return list(self.raw["methods"])

    @property
    def test_sets(self) -> list[str]:
        """Names of the test sets, in the order of the study."""
        return [test_set["name"] for test_set in self.raw["test_sets"]]

    def title_of(self, test_set: str) -> str:
        """What a test set is called in the report."""
        return str(next(entry["title"] for entry in self.raw["test_sets"] if entry["name"] == test_set))

    def conditions_of(self, test_set: str) -> list[str]:
        """The conditions this test set was judged under, in the order of the rows."""
        return list(dict.fromkeys(row.condition for row in self.rows if row.test_set == test_set))

    def find_row(self, method: str, threshold: str, test_set: str, condition: str) -> Row | None:
        """The row of one method at one threshold, or None when the study has no such row."""
        key = (method, threshold, test_set, condition)
        return next((r for r in self.rows if (r.method, r.threshold, r.test_set, r.condition) == key), None)

    def find_comparison(self, opponent: str, test_set: str, condition: str) -> Comparison | None:
        """The comparison with one opponent under one condition, or None."""
        key = (opponent, test_set, condition)
        return next((c for c in self.comparisons if (c.opponent, c.test_set, c.condition) == key), None)


def read_results(results: Mapping[str, Any]) -> StudyResults:
    """Return the records of `results` (what json.load gives). Raises ListenwellError naming what is missing."""
    missing = [name for name in NEEDED if name not in results]
    if missing:
        raise ListenwellError(
            f"results: no '{missing[0]}' in them, so they are not those of a study; run 'listenwell evaluate' again."
        )
    raw = OPTIONAL | dict(results)
    rows = tuple(Row(**{**row, "metrics": tuple(Metric(**metric) for metric in row["metrics"])}) for row in raw["rows"])
    comparisons = tuple(
        Comparison(**{**comparison, "result": PairedDifference(**comparison["result"])})
        for comparison in raw["comparisons"]
    )
    return StudyResults(raw, rows, comparisons)


def balanced_accuracy_of(row: Row) -> Metric:
    """The measure that every claim is made with."""
    return metric_of(row, "balanced_accuracy")


def metric_of(row: Row, name: str) -> Metric:
    """One measure of a row. Raises ListenwellError when the row lacks it."""
    for metric in row.metrics:
        if metric.name == name:
            return metric
    raise ListenwellError(
        f"results: {row.method} on {row.test_set}, {row.condition}, has no {name}; run 'listenwell evaluate' again."
    )


def shown_rows(results: StudyResults) -> list[tuple[str, str]]:
    """Return (method, threshold) of the rows worth a first look; the base model stands at its default only."""
    judged = {(row.method, row.threshold) for row in results.rows}
    pairs = [(method, threshold) for method in results.methods for threshold in (DEFAULT, CALIBRATED)]
    return [pair for pair in pairs if pair in judged and pair != (ZERO_SHOT, CALIBRATED)]


def curve_rows(results: StudyResults) -> list[tuple[str, str]]:
    """Return the (method, threshold) that stands for each method in a curve: calibrated where there is such a row."""
    return list({method: (method, threshold) for method, threshold in shown_rows(results)}.values())


def unseen_test_set(results: StudyResults) -> str:
    """The test set that answers "does it generalise": the out-of-corpus one, or the last when there is none."""
    return OUT_OF_CORPUS if OUT_OF_CORPUS in results.test_sets else results.test_sets[-1]


def snr_db_of(condition: str) -> float | None:
    """The SNR an "snr_X" condition names, otherwise None."""
    found = match_condition(condition)
    return found.snr_db if found else None


def duration_ms_of(condition: str) -> float | None:
    """The duration an "Xms" condition names, otherwise None."""
    found = match_condition(condition)
    return found.duration_ms if found else None


def t60_s_of(condition: str) -> float | None:
    """The reverberation time a "t60_X" condition names, otherwise None."""
    found = match_condition(condition)
    return found.t60_s if found else None


def evidence_of(results: StudyResults, part: str, missing: Any) -> Any:
    """One part of the evidence, `missing` where the study gathered none, or its version did not gather this part."""
    evidence: Mapping[str, Any] = results.raw["evidence"] or {}
    return evidence[part] if part in evidence else missing


def distinct(values: Iterable[str]) -> list[str]:
    """The values without repetitions, in order."""
    return list(dict.fromkeys(values))
