"""From scores to probabilities on dev, and how good probabilities are.

A map is p = 1 / (1 + exp(-(slope * score + intercept))), fitted by logistic loss on dev: with both numbers (Platt
1999) or the slope alone, 1 / temperature (Guo et al. 2017, arXiv:1706.04599). Both fit Platt's targets
(n + 1) / (n + 2) instead of 1 and 0, so that separable classes give a finite map. A map carries the mix of classes of
dev: where speech is rarer, so should its probabilities be. Probabilities are P(SPEECH), shape (n,).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from listenwell.evaluate.intervals import (
    FEW_GROUPS,
    N_RESAMPLES,
    Groups,
    Metric,
    Whole,
    class_sums,
    n_resamples,
    number_groups,
    resample_groups,
    stratified_error,
    t_quantile,
)
from listenwell.evaluate.metrics import Bools, Floats, require_classes

N_BINS = 10
SMALLEST_PROBABILITY = 1e-15
STEEPEST = 1e6


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """p = expit(slope * score + intercept)."""

    slope: float
    intercept: float

    def probabilities(self, score: Floats) -> Floats:
        """P(SPEECH) of scores (n,)."""
        return np.asarray(expit(self.slope * score + self.intercept))


LOG_ODDS = ProbabilityMap(1.0, 0.0)
"""Scores that are log-odds already, as a language model's."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The clips whose probability lies in [low, high), and 1 in the last: what was said of them, what they were."""

    low: float
    high: float
    n: int
    mean_probability: float
    speech_share: float


def fit_platt(score: Floats, is_speech: Bools) -> ProbabilityMap:
    """Return the map with the least logistic loss on dev scores (n,). Raises ManifestError when a class is missing."""
    centre, scale = float(np.mean(score)), _scale(score)
    slope, intercept = _fit(np.stack([(score - centre) / scale, np.ones(len(score))], 1), is_speech)
    return ProbabilityMap(slope / scale, intercept - slope * centre / scale)


def fit_temperature(score: Floats, is_speech: Bools) -> ProbabilityMap:
    """Return the map through score 0 = one half with the least logistic loss; its slope is 1 / temperature."""
    scale = _scale(score)
    (slope,) = _fit(score[:, None] / scale, is_speech)
    return ProbabilityMap(slope / scale, 0.0)


def _scale(score: Floats) -> float:
    """The spread of the scores, 1 where they are all alike."""
    spread = float(np.std(score))
    return spread if spread > 0 else 1.0


def _fit(columns: Floats, is_speech: Bools) -> list[float]:
    """Return the weights (c,) of `columns` (n, c) with the least logistic loss against Platt's targets."""
    require_classes(is_speech, "probabilities")
    n_speech = int(np.count_nonzero(is_speech))
    n_other = len(is_speech) - n_speech
    target = np.where(is_speech, (n_speech + 1.0) / (n_speech + 2.0), 1.0 / (n_other + 2.0))

    def loss(weights: Floats) -> tuple[float, Floats]:
        logit = columns @ weights
        value = float(np.mean(np.logaddexp(0.0, logit) - target * logit))
        return value, columns.T @ (expit(logit) - target) / len(target)

    bounds = [(-STEEPEST, STEEPEST)] * columns.shape[1]
    found = minimize(loss, np.zeros(columns.shape[1]), jac=True, bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9})
    return [float(weight) for weight in found.x]


def reliability_table(probability: Floats, is_speech: Bools) -> list[ReliabilityBin]:
    """Return bins of equal width over [0, 1], empty ones left out."""
    bins = _bin_of(probability)
    table = []
    for index in range(N_BINS):
        rows = bins == index
        if rows.any():
            share = float(np.mean(is_speech[rows]))
            mean = float(np.mean(probability[rows]))
            table.append(ReliabilityBin(index / N_BINS, (index + 1) / N_BINS, int(rows.sum()), mean, share))
    return table


def expected_calibration_error(probability: Floats, is_speech: Bools) -> float:
    """Mean over clips of |mean probability - share of speech| of their bin; 0 for honest probabilities."""
    table = reliability_table(probability, is_speech)
    return sum(each.n * abs(each.mean_probability - each.speech_share) for each in table) / len(probability)


def brier_losses(probability: Floats, is_speech: Bools) -> Floats:
    """(p - truth)^2 of each clip; their mean is the Brier score."""
    return np.square(probability - is_speech)


def log_losses(probability: Floats, is_speech: Bools) -> Floats:
    """-ln of the probability given to the truth, in nats; certainty of the wrong thing costs 34.5, not infinity."""
    of_truth = np.where(is_speech, probability, 1.0 - probability)
    return -np.log(np.maximum(of_truth, SMALLEST_PROBABILITY))


def probability_metrics(probability: Floats, is_speech: Bools, group: Groups, seed: int) -> list[Metric]:
    """Return Brier score, log-loss and expected calibration error with intervals; arrays (n,)."""
    member, n_groups = number_groups(group)
    counts = class_sums(np.ones(len(probability)), is_speech, member, n_groups)
    losses = {"brier": brier_losses(probability, is_speech), "log_loss": log_losses(probability, is_speech)}
    means = [_mean_loss(name, each, member, counts) for name, each in losses.items()]
    return [*means, _calibration_error(probability, is_speech, member, counts, seed)]


def _mean_loss(name: str, losses: Floats, member: Whole, counts: Floats) -> Metric:
    """The mean loss, its interval symmetric on the logarithmic scale; standard error over groups within strata."""
    n_clips, n_groups = len(losses), len(counts)
    value = float(np.mean(losses))
    sums = np.bincount(member, weights=(losses - value) / n_clips, minlength=n_groups)
    error = stratified_error(sums.astype(np.float64), counts)
    fewest = int((counts > 0).sum(axis=0).min())
    factor = float(np.exp(min(t_quantile(fewest) * error / value, 50.0))) if value > 0 else 1.0
    note = "one group says nothing about other groups" if n_groups == 1 else _few(n_groups)
    return Metric(
        name, value, value / factor, value * factor, n_clips, n_groups, "mean over groups, log scale, t", note
    )


def _calibration_error(probability: Floats, is_speech: Bools, member: Whole, counts: Floats, seed: int) -> Metric:
    n_groups = len(counts)
    bins = _bin_of(probability)
    cell = member * N_BINS + bins
    excess = np.bincount(cell, weights=probability - is_speech, minlength=n_groups * N_BINS).reshape(n_groups, N_BINS)
    sizes = counts.sum(axis=1)
    weights = resample_groups(counts, seed, "calibration error", n_resamples(n_groups), N_RESAMPLES)
    draws = [np.abs(chunk @ excess).sum(axis=1) / (chunk @ sizes) for chunk in weights]
    value = expected_calibration_error(probability, is_speech)
    half = t_quantile(int((counts > 0).sum(axis=0).min())) * float(np.std(np.concatenate(draws), ddof=1))
    note = "; ".join(part for part in (f"{N_BINS} bins, reads too high when clips are few", _few(n_groups)) if part)
    method = f"{n_resamples(n_groups)} draws of groups, t"
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Metric("calibration_error", value, low, high, len(bins), n_groups, method, note)


def _bin_of(probability: Floats) -> Whole:
    return np.asarray(np.minimum((probability * N_BINS).astype(np.intp), N_BINS - 1))


def _few(n_groups: int) -> str:
    return f"only {n_groups} groups, the interval is rough" if n_groups < FEW_GROUPS else ""
