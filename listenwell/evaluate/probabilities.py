"""From scores to probabilities on dev, and how good probabilities are.

A map is p = 1 / (1 + exp(-(slope * score + intercept))), fitted by logistic loss on dev: with both numbers (Platt
1999) or the slope alone, 1 / temperature (Guo et al. 2017, arXiv:1706.04599). Both fit Platt's targets
(n + 1) / (n + 2) instead of 1 and 0, so that separable classes give a finite map. A map carries the mix of classes of
dev: where speech is rarer, so should its probabilities be. Which map generalises is decided on dev, cross-fitted over
groups: with six speakers the scores as they are may do better than either. Probabilities are P(SPEECH), shape (n,).

Cllr (Bruemmer & du Preez 2006, Computer Speech & Language 20:230): what a detector's log-likelihood ratios cost, in
bits, over all mixes of classes; a detector that knows nothing and says so has 1. minCllr is what is left of it under
the best monotone map, fitted to these very clips by pool-adjacent-violators: the difference is bad calibration. actDCF
(NIST's detection cost, as a share of that without listening) is of the decisions that the probabilities ask for at
given costs; minDCF, of the best threshold, is a measure of ranking.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from listenwell.evaluate.intervals import (
    ONE_GROUP,
    Groups,
    Metric,
    Whole,
    class_sums,
    few_groups_note,
    group_parts,
    linearised_error,
    number_groups,
    proportion,
    stratified_error,
)
from listenwell.evaluate.metrics import EQUAL_COSTS, Bools, Costs, Floats, require_classes
from listenwell.evaluate.shares import t_quantile

N_BINS = 10
MOST_PARTS = 20
SMALLEST_PROBABILITY = 1e-15
STEEPEST = 1e6


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """p = expit(slope * score + intercept). prior: the share of speech among the clips it is meant for."""

    slope: float
    intercept: float
    prior: float = 0.5

    def probabilities(self, score: Floats) -> Floats:
        """P(SPEECH) of scores (n,)."""
        return np.asarray(expit(self.slope * score + self.intercept))


LOG_ODDS = ProbabilityMap(1.0, 0.0)
"""Scores that are log-odds already, as a language model's."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The clips whose probability lies in [low, high), and 1 in the last: what was said of them, and what they were,
    with its interval over groups."""

    low: float
    high: float
    n: int
    mean_probability: float
    speech_share: float
    share_low: float
    share_high: float


def fit_platt(score: Floats, is_speech: Bools) -> ProbabilityMap:
    """Return the map with the least logistic loss on dev scores (n,). Raises ManifestError when a class is missing."""
    centre, scale = float(np.mean(score)), _scale(score)
    slope, intercept = _fit(np.stack([(score - centre) / scale, np.ones(len(score))], 1), is_speech)
    return ProbabilityMap(slope / scale, intercept - slope * centre / scale, float(np.mean(is_speech)))


def fit_temperature(score: Floats, is_speech: Bools) -> ProbabilityMap:
    """Return the map through score 0 = one half with the least logistic loss; its slope is 1 / temperature."""
    scale = _scale(score)
    (slope,) = _fit(score[:, None] / scale, is_speech)
    return ProbabilityMap(slope / scale, 0.0)


def calibrated_loss(score: Floats, is_speech: Bools) -> float:
    """Return the mean logistic loss of scores (n,), in nats, after the shift and scale that suit these clips best.

    What is left of a loss when a threshold and a map to probabilities are chosen afterwards. Scores that rank the
    classes the wrong way round count as knowing nothing. Raises ManifestError when a class is missing.
    """
    best = fit_platt(score, is_speech)
    share = np.mean(is_speech)
    log_odds = best.slope * score + best.intercept if best.slope > 0 else np.full(len(score), logit(share))
    return float(np.mean(np.logaddexp(0.0, np.where(is_speech, -log_odds, log_odds))))


def choose_map(score: Floats, is_speech: Bools, group: Groups, seed: int) -> tuple[ProbabilityMap, dict[str, float]]:
    """Return the map with the least cross-fitted Cllr on dev, and that Cllr of each by name.

    Scores are log-odds, (n,). "log-odds" takes them as they are, the others are fitted; where the groups of a class
    cannot be parted, Platt's map is taken and nothing is compared. Raises ManifestError when a class is missing.
    """
    parts = group_parts(group, is_speech, MOST_PARTS, seed, "map")
    if not parts:
        return fit_platt(score, is_speech), {}
    losses = {}
    for name, fit in MAPS.items():
        ratios = np.empty(len(score))
        for held_out in parts:
            fitted = fit(score[~held_out], is_speech[~held_out])
            ratios[held_out] = log_likelihood_ratios(fitted.probabilities(score[held_out]), fitted.prior)
        losses[name] = cllr(ratios, is_speech)
    return MAPS[min(losses, key=lambda name: losses[name])](score, is_speech), losses


def _scale(score: Floats) -> float:
    """The spread of the scores, 1 where they are all alike."""
    spread = float(np.std(score))
    return spread if spread > 0 else 1.0


MAPS: dict[str, Callable[[Floats, Bools], ProbabilityMap]] = {
    "log-odds": lambda score, is_speech: LOG_ODDS,
    "temperature": fit_temperature,
    "Platt": fit_platt,
}


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


def reliability_table(probability: Floats, is_speech: Bools, group: Groups) -> list[ReliabilityBin]:
    """Return bins of equal width over [0, 1], empty ones left out; arrays (n,)."""
    bins = np.minimum((probability * N_BINS).astype(np.intp), N_BINS - 1)
    table = []
    for index in range(N_BINS):
        rows = bins == index
        if rows.any():
            share, mean = proportion("speech", is_speech[rows], group[rows]), float(np.mean(probability[rows]))
            edges = index / N_BINS, (index + 1) / N_BINS
            table.append(ReliabilityBin(*edges, share.n, mean, share.value, share.low, share.high))
    return table


def brier_losses(probability: Floats, is_speech: Bools) -> Floats:
    """(p - truth)^2 of each clip; their mean is the Brier score."""
    return np.square(probability - is_speech)


def log_likelihood_ratios(probability: Floats, prior: float) -> Floats:
    """Return the natural log-likelihood ratios that probabilities (n,) at this share of speech stand for."""
    inside = np.clip(probability, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    return np.asarray(logit(inside) - logit(prior))


def cllr(ratio: Floats, is_speech: Bools) -> float:
    """Return Cllr of log-likelihood ratios (n,), in bits. Raises ManifestError when a class is missing."""
    require_classes(is_speech, "Cllr")
    costs = ratio_costs(ratio, is_speech)
    return float(np.mean(costs[is_speech]) + np.mean(costs[~is_speech])) / 2


def ratio_costs(ratio: Floats, is_speech: Bools) -> Floats:
    """Return what each clip's log-likelihood ratio costs, in bits, (n,)."""
    return np.asarray(np.logaddexp(0.0, np.where(is_speech, -ratio, ratio)) / np.log(2.0))


def best_ratios(score: Floats, is_speech: Bools) -> Floats:
    """Return the log-likelihood ratios of the best monotone map of these very clips, (n,); infinite at its ends."""
    share = float(np.mean(is_speech))
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(score, is_speech.astype(np.float64))
    with np.errstate(divide="ignore"):
        return np.asarray(logit(fitted) - logit(share))


def probability_metrics(
    probability: Floats,
    is_speech: Bools,
    group: Groups,
    prior: float = 0.5,
    costs: Costs = EQUAL_COSTS,
) -> list[Metric]:
    """Return Brier score, Cllr, minCllr and actDCF with intervals; arrays (n,).

    prior: the share of speech that the probabilities are meant for. What needs both classes is left out else.
    """
    member, n_groups = number_groups(group)
    counts = class_sums(np.ones(len(probability)), is_speech, member, n_groups)
    metrics = [_mean_loss("brier", brier_losses(probability, is_speech), member, counts)]
    if counts.sum(axis=0).min() > 0:
        ratios = {
            "cllr": log_likelihood_ratios(probability, prior),
            "min_cllr": best_ratios(probability, is_speech),
        }
        metrics += [_mean_cost(name, ratio, is_speech, member, counts) for name, ratio in ratios.items()]
        metrics.append(_actual_cost(ratios["cllr"], is_speech, group, costs))
    return metrics


def _actual_cost(ratio: Floats, is_speech: Bools, group: Groups, costs: Costs) -> Metric:
    """actDCF: clips are called speech where that costs less; the intervals of both error rates, combined by MOVER."""
    weights = np.array([costs.miss * costs.speech_prior, costs.false_alarm * (1.0 - costs.speech_prior)])
    says_speech = ratio >= np.log(weights[1] / weights[0])
    shares = [proportion("", (says_speech == is_speech)[rows], group[rows]) for rows in (is_speech, ~is_speech)]
    value, low, high = (np.array([getattr(share, each) for share in shares]) for each in ("value", "low", "high"))
    weights /= costs.blind()
    cost = float(weights @ (1.0 - value))
    below, above = (float(np.linalg.norm(weights * half)) for half in (high - value, value - low))
    n_groups = number_groups(group)[1]
    return Metric("act_dcf", cost, cost - below, cost + above, len(ratio), n_groups, "MOVER of both error rates", "")


def _mean_cost(name: str, ratio: Floats, is_speech: Bools, member: Whole, counts: Floats) -> Metric:
    """Cllr with its interval; the best map of minCllr is held as it is, which its errors depend on in second order."""
    costs = ratio_costs(ratio, is_speech)
    error = linearised_error(class_sums(costs, is_speech, member, len(counts)), counts)
    return _positive(name, cllr(ratio, is_speech), error, counts)


def _mean_loss(name: str, losses: Floats, member: Whole, counts: Floats) -> Metric:
    """The mean loss; standard error over groups within strata."""
    n_clips, n_groups = len(losses), len(counts)
    value = float(np.mean(losses))
    sums = np.bincount(member, weights=(losses - value) / n_clips, minlength=n_groups)
    error = stratified_error(sums.astype(np.float64), counts)
    return _positive(name, value, error, counts)


def _positive(name: str, value: float, error: float, counts: Floats) -> Metric:
    """A measure above 0 with its interval, symmetric on the logarithmic scale; counts: clips of each class, (G, 2)."""
    n_groups, fewest = len(counts), int((counts > 0).sum(axis=0).min())
    factor = float(np.exp(min(t_quantile(fewest) * error / value, 50.0))) if value > 0 else 1.0
    note = ONE_GROUP if n_groups == 1 else few_groups_note(n_groups)
    method = "mean over groups, log scale, t"
    return Metric(name, value, value / factor, value * factor, int(counts.sum()), n_groups, method, note)
