"""Read what any program predicted, its own column names and scales, and judge it: measures, curves, warnings.

A score table is read as it stands. What its numbers mean decides the threshold used when none is given and whether
they are judged as probabilities too:

| scale | numbers | threshold |
|---|---|---|
| log-odds | any; above 0 speech is the more likely | 0 |
| probability | 0 to 1, P(SPEECH) | 0.5 |
| percent | 0 to 100 or "97.5 %", read as probability | 0.5 |
| decision | 0 and 1, or words such as speech and non-speech | 0.5 |

`auto` takes percent where every score carries a percent sign, decisions where all are words or 0 and 1, probability
where all lie in [0, 1], log-odds otherwise. Decisions have no ranking and no probabilities: only what they decide is
measured.

Conditions may have names of their own, such as dur_20ms; a small table says what each is (`read_conditions`). Beside
every condition stand all of one kind together (every duration, every SNR) and all rows.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import logit

from listenwell.data.tables import NO_NAMES, Row, read_rows
from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import (
    NOISY,
    Part,
    PartMetric,
    decision_metrics,
    summarise,
    summarise_parts,
    versions,
)
from listenwell.evaluate.metrics import EQUAL_COSTS, Costs, Floats, decide
from listenwell.evaluate.power import Verdict, judge_criterion
from listenwell.evaluate.probabilities import LOG_ODDS, ProbabilityMap, ReliabilityBin, reliability_table
from listenwell.evaluate.psychometric import (
    FEWEST_LEVELS,
    TARGETS,
    Measure,
    PsychometricCurve,
    fit_curve,
    levels_of,
)
from listenwell.evaluate.scores import COLUMNS, ScoreTable, read_scores
from listenwell.evaluate.transfer import Transfer, measure_transfer
from listenwell.evaluate.traps import find_traps, warn_dropped_rows
from listenwell.progress import OnProgress, ignore_progress

Scale = Literal["log-odds", "probability", "decision"]
GivenScale = Literal["auto", "log-odds", "probability", "percent"]
DEFAULT_THRESHOLDS: Mapping[Scale, float] = {"log-odds": 0.0, "probability": 0.5, "decision": 0.5}
SHORT_NAMES = {"id": "clip_id", "decision": "score"}
EVERYTHING = "all"
SMALLEST_PROBABILITY = 1e-6
WORD = re.compile(r"(?!inf|nan)[a-z]{2}", re.IGNORECASE)
SNR_NAME = re.compile(r"snr_(-?\d+(?:\.\d+)?)")
CURVE_MEASURES: tuple[Measure, ...] = ("recall", "balanced_accuracy")


@dataclass(frozen=True, slots=True)
class Predictions:
    """A score table and what its numbers mean; note: what was taken for granted, "" for nothing."""

    table: ScoreTable
    scale: Scale
    note: str = ""

    @property
    def default_threshold(self) -> float:
        """The threshold at which both answers are equally likely."""
        return DEFAULT_THRESHOLDS[self.scale]

    @property
    def to_probability(self) -> Callable[[Floats], Floats]:
        """Turns scores (n,) into P(SPEECH); not of decisions."""
        return LOG_ODDS.probabilities if self.scale == "log-odds" else np.asarray

    @property
    def to_logit(self) -> Callable[[Floats], Floats]:
        """Turns scores into log-odds, any shape; probabilities nearer to 0 or 1 than SMALLEST_PROBABILITY are cut."""
        if self.scale == "log-odds":
            return np.asarray
        return lambda probability: logit(np.clip(probability, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY))


def parse_columns(text: str) -> dict[str, str]:
    """Return column -> the file's name for it, from "id=path,label=y,score=prob,group=spk". Raises ConfigError."""
    names = {}
    for pair in text.split(",") if text else []:
        column, _, name = (part.strip() for part in pair.partition("="))
        column = SHORT_NAMES[column] if column in SHORT_NAMES else column
        if column not in COLUMNS or not name or column in names:
            raise ConfigError(
                f"--columns: cannot use '{pair}'; expected pairs such as id=path,label=y,score=prob,group=spk "
                f"(columns: id, {', '.join(COLUMNS[1:])}, each once)."
            )
        names[column] = name
    return names


def read_predictions(
    path: Path,
    names: Mapping[str, str] = NO_NAMES,
    scale: GivenScale = "auto",
    conditions: Mapping[str, str] = NO_NAMES,
) -> Predictions:
    """Read the CSV file at `path`; names as in read_scores, conditions: what the file's names stand for.

    Raises ManifestError with file and line.
    """
    kinds: dict[str, Row] = {}

    def read_score(row: Row) -> float:
        text = row.required("score")
        kind = "percent sign" if text.endswith("%") else "word" if WORD.match(text) else "number"
        kinds.setdefault(kind, row)
        if kind == "word":
            return float(replace(row, cells={**row.cells, "label": text}).label() == "SPEECH")
        return replace(row, cells={**row.cells, "score": text.removesuffix("%").strip()}).number("score")

    table = read_scores(path, names, read_score)
    if len(kinds) > 1:
        (one, _), (other, row) = list(kinds.items())[:2]
        raise row.fault(f"score '{row.text('score')}' is a {other}, others are a {one}; write all alike.")
    table = name_conditions(table, conditions)
    if "percent sign" in kinds or scale == "percent":
        _check_range(path, table, 100.0, "percentages")
        table = replace(table, score=table.score / 100.0)
        return Predictions(table, "probability", f"{path}: percentages, read as probabilities of speech")
    if scale == "auto" and table.is_decision:
        return Predictions(table, "decision", f"{path}: decisions rather than scores, so nothing is ranked")
    if scale == "probability":
        _check_range(path, table, 1.0, "probabilities")
        return Predictions(table, "probability")
    if scale == "auto" and table.score.min() >= 0.0 and table.score.max() <= 1.0:
        note = "scores lie between 0 and 1, read as probabilities of speech (--scale log-odds if they are not)"
        return Predictions(table, "probability", f"{path}: {note}")
    if scale == "auto" and "score" in names and "prob" in names["score"].lower():
        _check_range(path, table, 1.0, "probabilities (by its name)")
    return Predictions(table, "log-odds")


def read_ids(path: Path, names: Mapping[str, str]) -> set[str]:
    """Return the ids of the clips of a CSV table: of the column that `names` gives clip_id where it is there.

    Raises ManifestError with file and line.
    """

    def name_column(place: str, header: Sequence[str]) -> Mapping[str, str]:
        return {"clip_id": names["clip_id"]} if "clip_id" in names and names["clip_id"] in header else {}

    return {row.required("clip_id") for row in read_rows(path, ("clip_id",), ("clip_id",), name_column)}


def read_conditions(path: Path) -> dict[str, str]:
    """Return what the conditions named in a CSV file (columns condition, as) stand for: clean, 200ms, snr_-5 and so on.

    Raises ManifestError with file and line.
    """
    rows = read_rows(path, ("condition", "as"), ("condition", "as"))
    return {row.required("condition"): row.required("as") for row in rows}


def name_conditions(table: ScoreTable, conditions: Mapping[str, str]) -> ScoreTable:
    """Return the table with our names for its conditions; snr_ conditions get their level where the table has none.

    Raises ManifestError where the table has no condition of such a name.
    """
    unknown = sorted(set(conditions) - set(table.condition.tolist()))
    if unknown:
        raise ManifestError(
            f"the score table has no condition '{unknown[0]}'; it has {', '.join(sorted(set(table.condition)))}."
        )
    condition = np.array([conditions.get(old, old) for old in table.condition.tolist()])
    level = np.array([float(m[1]) if (m := SNR_NAME.fullmatch(name)) else np.nan for name in condition.tolist()])
    return replace(table, condition=condition, snr_db=np.where(np.isfinite(table.snr_db), table.snr_db, level))


def pooled_versions(table: ScoreTable) -> dict[str, ScoreTable]:
    """Return the table by condition, every SNR together, every other kind of several conditions, and all rows.

    Durations are one kind, and names that begin alike up to the first _.
    """
    parts = versions(table)
    conditions = [name for name in parts if name != NOISY]
    if len(conditions) < 2:
        return parts
    of_kind: dict[str, list[str]] = {}
    for name in conditions:
        kind = "duration" if re.fullmatch(r"\d+ms", name) else name.partition("_")[0]
        of_kind.setdefault(kind, []).append(name)
    for kind, members in of_kind.items():
        if len(members) > 1 and not SNR_NAME.fullmatch(members[0]) and kind not in parts:
            parts[f"{kind}: all {len(members)}"] = table.select(np.isin(table.condition, members))
    return parts | {EVERYTHING: table}


def _check_range(path: Path, table: ScoreTable, most: float, kind: str) -> None:
    beyond = np.flatnonzero((table.score < 0) | (table.score > most))
    if beyond.size:
        row = int(beyond[0])
        raise ManifestError(
            f"{path}: the score of clip '{table.clip_id[row]}' is {table.score[row]:g}; {kind} from 0 to {most:g} were "
            "expected, say what they are with --scale log-odds, probability or percent."
        )


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
    table, is_decision = predictions.table, predictions.scale == "decision"
    to_probability = question.platt.probabilities if question.platt else predictions.to_probability
    metrics, parts = {}, pooled_versions(table)
    for done, (condition, part) in enumerate(parts.items()):
        on_progress("measuring conditions", done, len(parts))
        if is_decision:
            decided = decide(part.score, question.threshold)
            metrics[condition] = decision_metrics(decided, part.is_speech, part.group)
        else:
            prior = question.platt.prior if question.platt else 0.5
            metrics[condition] = summarise(part, question.threshold, seed, to_probability, question.costs, prior)
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
        [] if is_decision else reliability_table(to_probability(table.score), table.is_speech, table.group),
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
