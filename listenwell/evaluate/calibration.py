"""Choose a decision threshold on dev scores; the test is never seen here.

A clip is called SPEECH when its score is at or above the threshold. Between two neighbouring dev scores every
threshold decides alike, so the candidates (cuts) are the midpoints of these stretches, and one beyond each end. Of
equally good cuts the same rule chooses on the table and on every draw of its groups, `choose_cut`.

What a threshold is chosen for is written as text, NAME or NAME=NUMBER[,NUMBER,NUMBER]:

| text | the threshold with |
|---|---|
| balanced_accuracy | the largest mean of recall and specificity |
| accuracy | the most right decisions on this mix of classes |
| target_recall=0.95 | the largest specificity among those that find 95 % of the speech |
| target_false_alarm=0.01 | the largest recall among those that call at most 1 % of the other clips speech |
| eer | misses and false alarms as equal as they get |
| cost=1,10,0.2 | the least expected cost: a miss costs 1, a false alarm 10, 20 % of the clips to come are speech |

A threshold carries the hash of the dev scores that chose it: nobody can exchange the scores and keep the threshold
unnoticed. Its interval is that of the thresholds other dev groups would have chosen (draws of whole groups,
percentiles). Choosing and judging on the same dev clips flatters; where one set of scores must serve for both, groups
are dealt into folds and each is decided with the threshold that the other folds choose (cross-fitting).

K score levels, in the order of an operating curve: from the highest down, so K + 1 cuts from "nothing is speech" to
"everything is speech". Rates (tpr, fpr) are arrays of any shape, so curves of many resamples are judged at once.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.intervals import (
    GroupedScores,
    Metric,
    Whole,
    expanded_tails,
    few_groups_note,
    group_scores,
    n_resamples,
    resample_curves,
)
from listenwell.evaluate.metrics import Bools, Costs, Floats, balanced_accuracy, decide, require_classes, roc_points
from listenwell.evaluate.probabilities import ProbabilityMap, fit_platt, fit_temperature
from listenwell.evaluate.scores import ScoreTable
from listenwell.storage.load_or_make import without_own_hash, write_checksummed

N_NUMBERS = {"balanced_accuracy": 0, "accuracy": 0, "eer": 0, "target_recall": 1, "target_false_alarm": 1, "cost": 3}
FORMS = "balanced_accuracy, accuracy, eer, target_recall=0.95, target_false_alarm=0.01 or cost=1,10,0.2"
ROUNDING = 1e-12
EQUAL_SHARE, EQUAL_ULPS = 1e-12, 8
"""Widths and distances are equal when they differ by less than this share of the scores' spread, plus so many units in
the last place of the largest score: a score that is shifted or scaled is rounded by half a unit, a midpoint by two."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A name of N_NUMBERS and its numbers; raises ConfigError when they do not fit."""

    name: str
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in N_NUMBERS or len(self.numbers) != N_NUMBERS[self.name]:
            raise ConfigError(f"criterion: '{self}' is not one; expected {FORMS}.")
        shares = self.numbers[-1:]
        if not all(0.0 < share < 1.0 for share in shares) or not all(0.0 < n < np.inf for n in self.numbers):
            raise ConfigError(
                f"criterion: '{self}' needs costs above 0 and a rate or share of speech between 0 and 1, without them; "
                "95 % is written 0.95."
            )

    def __str__(self) -> str:
        return self.name + ("=" if self.numbers else "") + ",".join(f"{number:g}" for number in self.numbers)

    def gain(self, fpr: Floats, tpr: Floats, speech_share: float) -> Floats:
        """Return what the chosen threshold has the most of; speech_share: of the clips at hand."""
        if self.name == "eer":
            return -np.abs(fpr - (1.0 - tpr))
        if self.name == "target_recall":
            return np.where(tpr >= self.numbers[0] - ROUNDING, 1.0 - fpr, -1.0)
        if self.name == "target_false_alarm":
            return np.where(fpr <= self.numbers[0] + ROUNDING, tpr, -1.0)
        return self.reached(fpr, tpr, speech_share) * (-1.0 if self.name == "cost" else 1.0)

    def reached(self, fpr: Floats, tpr: Floats, speech_share: float) -> Floats:
        """Return the measure that is reported: MEASURES says which."""
        if self.name == "accuracy":
            return speech_share * tpr + (1.0 - speech_share) * (1.0 - fpr)
        if self.name == "target_recall":
            return 1.0 - fpr
        if self.name == "target_false_alarm":
            return tpr
        if self.name == "eer":
            return (1.0 - tpr + fpr) / 2
        if self.name == "cost":
            return Costs(*self.numbers).expected(fpr, tpr)
        return (tpr + 1.0 - fpr) / 2


BALANCED_ACCURACY = Criterion("balanced_accuracy")
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "eer": "mean of misses and false alarms",
    "target_recall": "specificity",
    "target_false_alarm": "recall",
    "cost": "expected cost per clip",
}
"""What `reached` is, in words."""


def parse_criterion(text: str) -> Criterion:
    """Return the criterion `text` names. Raises ConfigError."""
    name, _, numbers = text.partition("=")
    try:
        return Criterion(name.strip(), tuple(float(number) for number in numbers.split(",")) if numbers else ())
    except ValueError as error:
        raise ConfigError(f"criterion: '{text}' has something that is no number; expected {FORMS}.") from error


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cuts of one table from the highest down, (K + 1,), and what decides between equally good ones.

    half_widths: of the stretch around each cut, 0 beyond the ends. half_distances: from the cut to the midpoint
    of the two classes' mean scores, 0 beyond the ends. Halves, because a whole one may be beyond the largest float.
    tolerance: in their unit.
    """

    thresholds: Floats
    half_widths: Floats
    half_distances: Floats
    tolerance: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, what it reaches on the dev scores (dev_value), and which dev scores those were."""

    value: float
    criterion: str
    dev_value: float
    dev_sha256: str
    n: int
    n_groups: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that dev decides about a detector: its threshold, how sure that is, and two ways to probabilities.

    temperature: None where scores are no log-odds, and 0 has no meaning.
    """

    threshold: Threshold
    low: float
    high: float
    note: str
    temperature: ProbabilityMap | None
    platt: ProbabilityMap


def calibrate(dev: ScoreTable, criterion: Criterion, seed: int, are_log_odds: bool = True) -> Calibration:
    """Choose threshold and probability maps on `dev`. Raises ManifestError when a class is missing."""
    threshold = choose_threshold(dev, criterion)
    interval = threshold_interval(dev, criterion, seed)
    temperature = fit_temperature(dev.score, dev.is_speech) if are_log_odds else None
    platt = fit_platt(dev.score, dev.is_speech)
    return Calibration(threshold, interval.low, interval.high, interval.note, temperature, platt)


def choose_threshold(dev: ScoreTable, criterion: Criterion = BALANCED_ACCURACY) -> Threshold:
    """Return the threshold that `criterion` asks for on `dev`; of several, the one that `choose_cut` takes.

    All rows count alike, so conditions with equally many clips weigh the same. Raises ManifestError when a class is
    missing.
    """
    value, reached = best_threshold(dev.score, dev.is_speech, criterion)
    n_groups = int(np.unique(dev.group).size)
    return Threshold(value, str(criterion), reached, scores_sha256(dev), len(dev), n_groups)


def best_threshold(score: Floats, is_speech: Bools, criterion: Criterion = BALANCED_ACCURACY) -> tuple[float, float]:
    """Return the threshold that `criterion` asks for on scores (n,), and what it reaches there."""
    require_classes(is_speech, "a threshold")
    distinct = np.unique(score)[::-1]
    cuts = table_cuts(distinct, distinct, _half_midpoint(score, is_speech, ~is_speech))
    fpr, tpr = roc_points(score, is_speech)
    speech_share = float(np.mean(is_speech))
    chosen = int(choose_cut(criterion.gain(fpr, tpr, speech_share), cuts))
    return float(cuts.thresholds[chosen]), float(criterion.reached(fpr, tpr, speech_share)[chosen])


def choose_cut(gains: Floats, cuts: Cuts) -> Whole:
    """Return the index of the cut of the largest gain; gains (..., K + 1), result (...).

    Of equally good cuts the one in the widest stretch: scores to come may move furthest before it decides otherwise.
    Beyond an end there is none, so everything is called the same only where no cut between scores is as good; where
    both ends are, everything is speech. Of equally wide ones the cut nearest the midpoint of the two classes' mean
    scores, where it would lie if nothing but the means were known. Of those the lowest. Each comparison allows for
    rounding (EQUAL_SHARE, EQUAL_ULPS), so the choice does not hang on a last bit: shifting or scaling all scores shifts
    or scales the threshold, and the order of the rows changes nothing.
    """
    scale = np.abs(gains).max(axis=-1, keepdims=True)
    tied = gains >= gains.max(axis=-1, keepdims=True) - ROUNDING * scale
    widths = np.where(tied, cuts.half_widths, -np.inf)
    tied = widths >= widths.max(axis=-1, keepdims=True) - cuts.tolerance
    distances = np.where(tied, cuts.half_distances, np.inf)
    tied = distances <= distances.min(axis=-1, keepdims=True) + cuts.tolerance
    chosen: Whole = tied.shape[-1] - 1 - np.argmax(tied[..., ::-1], axis=-1)
    return chosen


def table_cuts(lowest: Floats, highest: Floats, half_midpoint: float) -> Cuts:
    """Return the cuts above, between and below score levels.

    lowest, highest: scores of each level, (K,), falling. half_midpoint: half the midpoint of the two classes' means.
    The first cut calls nothing speech, the last everything; both lie 1 beyond the scores, whatever their scale.
    """
    above = max(highest[0] + 1.0, np.nextafter(highest[0], np.inf))
    middles = highest[1:] / 2 + lowest[:-1] / 2
    between = np.where(middles > highest[1:], middles, lowest[:-1])
    thresholds = np.concatenate([[above], between, [lowest[-1] - 1.0]])
    half_widths = np.concatenate([[0.0], lowest[:-1] / 2 - highest[1:] / 2, [0.0]])
    half_distances = np.abs(thresholds / 2 - half_midpoint)
    half_distances[[0, -1]] = 0.0
    largest = max(abs(highest[0]), abs(lowest[-1]))
    half_spread = highest[0] / 2 - lowest[-1] / 2
    tolerance = float(EQUAL_SHARE * half_spread + EQUAL_ULPS * np.spacing(largest))
    return Cuts(thresholds, half_widths, half_distances, tolerance)


def _half_midpoint(score: Floats, n_speech: NDArray[Any], n_nonspeech: NDArray[Any]) -> float:
    """Half the midpoint of the two classes' mean scores, the same to the bit in any order of the rows.

    n_speech, n_nonspeech: how many clips of each class stand at each score, (n,).
    """
    shares = n_speech / n_speech.sum() / 4 + n_nonspeech / n_nonspeech.sum() / 4
    return math.fsum((np.asarray(score, dtype=np.float64) * shares).tolist())


def threshold_interval(dev: ScoreTable, criterion: Criterion, seed: int) -> Metric:
    """Return the chosen threshold with the percentiles of those chosen on draws of the dev groups."""
    value = best_threshold(dev.score, dev.is_speech, criterion)[0]
    return percentile_metric("threshold", value, dev, criterion, seed, "threshold")


def percentile_metric(
    name: str,
    value: float,
    table: ScoreTable,
    criterion: Criterion,
    seed: int,
    stream_name: str,
    change: Callable[[Floats], Floats] = np.asarray,
) -> Metric:
    """Return `value` with the percentiles of what `change` makes of the thresholds chosen on draws of the groups."""
    scores = group_scores(table.score, table.is_speech, table.group)
    thresholds = curve_cuts(scores).thresholds
    chosen = [thresholds[at] for at, _, _ in resampled_choices(scores, criterion, seed, stream_name)]
    low, high = np.quantile(change(np.concatenate(chosen)), expanded_tails(scores.fewest_groups))
    method, note = f"{n_resamples(scores.n_groups)} draws of groups, percentiles", few_groups_note(scores.n_groups)
    if scores.fewest_groups == 1:
        note = "one group in a class says nothing about other groups, the interval is too narrow"
    return Metric(name, value, float(low), float(high), len(table), scores.n_groups, method, note)


def curve_cuts(scores: GroupedScores) -> Cuts:
    """The cuts at the points of the drawn curves; a level stands at its middle."""
    n_speech, n_nonspeech = (
        np.asarray(clips.sum(axis=1), dtype=np.float64).ravel() for clips in (scores.speech, scores.nonspeech)
    )
    half_midpoint = _half_midpoint(scores.lowest / 2 + scores.highest / 2, n_speech, n_nonspeech)
    return table_cuts(scores.lowest, scores.highest, half_midpoint)


def resampled_choices(
    scores: GroupedScores, criterion: Criterion, seed: int, name: str
) -> Iterator[tuple[Whole, Floats, Floats]]:
    """Yield, chunk by chunk, the point each draw chooses, (chunk,), and the draws' false-alarm and hit rates.

    Equally good points of a draw are parted by `choose_cut` with the widths and distances of the whole table.
    """
    cuts = curve_cuts(scores)
    speech_share = float(scores.counts[:, 0].sum() / scores.counts.sum())
    for fpr, tpr in resample_curves(scores, seed, name):
        yield choose_cut(criterion.gain(fpr, tpr, speech_share), cuts), fpr, tpr


def scores_sha256(table: ScoreTable) -> str:
    """Hash of clip ids, conditions, labels and scores, in the order of the table."""
    columns: list[NDArray[np.generic]] = [table.clip_id, table.condition, table.label]
    text = json.dumps([column.tolist() for column in columns], ensure_ascii=True)
    return hashlib.sha256(text.encode() + np.ascontiguousarray(table.score, dtype="<f8").tobytes()).hexdigest()


def write_threshold(path: Path, threshold: Threshold) -> None:
    """Write the threshold as JSON, atomically."""
    write_checksummed(path, asdict(threshold))


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a threshold file that also holds the interval and the probability maps, atomically."""
    rest = asdict(calibration)
    write_checksummed(path, rest.pop("threshold") | rest)


def read_threshold(path: Path) -> Threshold:
    """Read the threshold in a file of either kind. Raises ManifestError when it is missing or not one."""
    content = _read(path)
    kept = {field.name: content[field.name] for field in fields(Threshold)}
    return Threshold(**(kept | {"value": float(content["value"])}))


def read_given_threshold(text: str, default: float) -> tuple[float, Threshold | None]:
    """Return the threshold that `text` gives: a finite number, a threshold file, or "" for the default; and its record.

    Raises ManifestError when it is neither.
    """
    if not text:
        return default, None
    try:
        value = float(text)
    except ValueError:
        chosen = read_threshold(Path(text))
        return chosen.value, chosen
    if not math.isfinite(value):
        raise ManifestError(f"threshold: '{text}' is not finite; give a number, or a file that calibrate wrote.")
    return value, None


def read_platt(path: Path) -> ProbabilityMap | None:
    """Read the probability map (Platt) of a threshold file, None where it holds none. Raises ManifestError."""
    content = _read(path)
    if "platt" not in content:
        return None
    try:
        return ProbabilityMap(**{name: float(content["platt"][name]) for name in ("slope", "intercept", "prior")})
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: its 'platt' is no slope, intercept and prior; run 'listenwell calibrate' again."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """The content of a threshold file. Raises ManifestError."""
    try:
        content = without_own_hash(path, json.loads(path.read_text(encoding="utf-8")), ManifestError)
        missing = [field.name for field in fields(Threshold) if field.name not in content]
        if missing or not math.isfinite(content["value"]):
            raise ValueError(f"without {', '.join(missing)}" if missing else f"its value is {content['value']}")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ManifestError(f"{path}: not a threshold ({error}); run 'listenwell calibrate' to choose one.") from error
    return content


N_FOLDS = 5


def cross_fitted_balanced_accuracy(dev: ScoreTable, n_folds: int = N_FOLDS) -> float:
    """Balanced accuracy of `cross_fitted_decisions`. Raises ManifestError as choose_threshold."""
    return balanced_accuracy(cross_fitted_decisions(dev, n_folds), dev.is_speech)


def cross_fitted_decisions(dev: ScoreTable, n_folds: int = N_FOLDS) -> Bools:
    """Decisions (n,), each made with the threshold that other groups chose.

    A class with fewer groups than folds has fewer folds; groups are dealt in the order of their names.
    """
    fold_of: dict[str, int] = {}
    for is_speech in (True, False):
        groups = sorted(set(dev.group[dev.is_speech == is_speech].tolist()) - set(fold_of))
        fold_of |= {group: number % n_folds for number, group in enumerate(groups)}
    fold = np.array([fold_of[group] for group in dev.group.tolist()])
    decisions: Bools = np.zeros(len(dev), dtype=np.bool_)
    for number in np.unique(fold):
        held = fold == number
        decisions[held] = decide(dev.score[held], choose_threshold(dev.select(~held)).value)
    return decisions
