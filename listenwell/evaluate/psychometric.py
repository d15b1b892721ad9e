"""How accuracy rises with duration or SNR: a fitted curve, and where it passes 75 or 90 %.

At level x (dB, or log2 of ms), P(x) = u (g + (1 - g) / (1 + exp(-(x - m) / s))): u = 1 - lapse rate, u g = guess rate
(Wichmann & Hill 2001, Percept. Psychophys. 63:1293). Fitted by binomial likelihood to the share right at each level;
a balanced accuracy is fitted as a share. Under ENOUGH_LEVELS levels say too little for four numbers: the lapse rate is
then LAPSE and the guess rate that of chance (recall 0, balanced accuracy 1/2). Intervals: the curve fitted again to
draws of whole groups, percentiles. A point is only given within the levels that were tested, and only where one end of
its interval lies there, too.

L levels, G groups, R draws.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from threadpoolctl import threadpool_limits

from listenwell.evaluate.intervals import (
    class_sums,
    expanded_tails,
    few_groups_note,
    number_groups,
    resample_groups,
)
from listenwell.evaluate.metrics import Floats, decide, require_classes
from listenwell.evaluate.scores import ScoreTable

Over = Literal["duration_ms", "snr_db"]
Measure = Literal["recall", "balanced_accuracy"]
TARGETS: dict[Over, tuple[float, ...]] = {"duration_ms": (0.75, 0.9), "snr_db": (0.75,)}
N_DRAWS = 400
FEWEST_LEVELS, ENOUGH_LEVELS = 3, 5
LAPSE = 0.02
CHANCE: dict[Measure, float] = {"recall": 0.0, "balanced_accuracy": 0.5}
STEEPEST_SHARE, FLATTEST_SHARE = 0.01, 2.0
"""The scale s lies between these shares of the range tested."""
SMALLEST = 1e-9
Bounds = tuple[tuple[float, float], tuple[float, float]]
FREE_RATES: Bounds = ((0.0, 1.0), (0.01, 1.0))


@dataclass(frozen=True, slots=True)
class CrossingPoint:
    """Where the curve passes `target`, in ms or dB, with its 95 % interval.

    None: outside the levels tested, below or above them as `sentence` says.
    """

    target: float
    value: float | None
    low: float | None
    high: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class PsychometricCurve:
    """Measured shares by level, the fitted curve (m, s, g, u; m and s in dB, or log2 ms) and its crossing points."""

    over: Over
    measure: Measure
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    middle: float
    scale: float
    guess_rate: float
    lapse_rate: float
    points: tuple[CrossingPoint, ...]
    n_groups: int
    note: str


def fit_curve(
    table: ScoreTable, threshold: float, over: Over, measure: Measure, seed: int, n_draws: int = N_DRAWS
) -> PsychometricCurve:
    """Fit the curve of `measure` at `threshold` over durations ("200ms" conditions) or SNRs.

    At least FEWEST_LEVELS of them. Raises ManifestError when a class is missing.
    """
    level_of = levels_of(table, over)
    rows = np.isfinite(level_of)
    levels = np.unique(level_of[rows])
    table = table.select(rows)
    require_classes(table.is_speech, "a curve", nonspeech=measure == "balanced_accuracy")
    rights, counts, by_group = _count_cells(table, decide(table.score, threshold), level_of[rows], levels)
    x = np.log2(levels) if over == "duration_ms" else levels
    shares = _shares(np.ones((1, len(rights))), rights, counts, measure)[0]
    classes = slice(0, 1) if measure == "recall" else slice(0, 2)
    weights = counts[..., classes].sum(axis=(0, 2))
    rates, upper, guess = FREE_RATES, 1.0 - LAPSE, CHANCE[measure] / (1.0 - LAPSE)
    if levels.size < ENOUGH_LEVELS:
        rates = (guess, guess), (upper, upper)
    with threadpool_limits(1, "blas"):  # the products are small, threads only wait for one another
        fitted = _fit(x, shares, weights, _first_guess(x, shares), rates)
        draws = resample_groups(by_group, seed, f"curve {over}", n_draws, n_draws)
        drawn_shares = np.concatenate([_shares(chunk, rights, counts, measure) for chunk in draws])
        refitted = [_fit(x, drawn, weights, fitted, rates) for drawn in drawn_shares]
    tails = expanded_tails(int((by_group[:, classes] > 0).sum(axis=0).min()))
    points = [_crossing(target, x, fitted, refitted, over, tails) for target in TARGETS[over]]
    middle, scale, guess, upper = fitted
    n_groups = int(by_group[:, classes].any(axis=1).sum())
    return PsychometricCurve(
        over, measure, tuple(map(float, levels)), tuple(map(float, shares)), float(middle), float(scale),
        float(upper * guess), float(1.0 - upper), tuple(points), n_groups, few_groups_note(n_groups),
    )  # fmt: skip


def levels_of(table: ScoreTable, over: Over) -> Floats:
    """Return the level of each row, NaN where its condition is not one of this kind, shape (n,)."""
    if over == "snr_db":
        return table.snr_db
    conditions, at = np.unique(table.condition, return_inverse=True)
    named = [re.fullmatch(r"(\d+)ms", condition) for condition in conditions.tolist()]
    return np.array([float(found[1]) if found else np.nan for found in named])[at]


def _count_cells(
    table: ScoreTable, says_speech: NDArray[np.bool_], level_of: Floats, levels: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return right decisions and clips by group, level and class, (G, L, 2) each, and clips by group, (G, 2)."""
    member, n_groups = number_groups(table.group)
    cell = member * levels.size + np.searchsorted(levels, level_of)
    right = (says_speech == table.is_speech).astype(np.float64)
    rights, counts = (
        class_sums(values, table.is_speech, cell, n_groups * levels.size).reshape(n_groups, levels.size, 2)
        for values in (right, np.ones(len(table)))
    )
    return rights, counts, counts.sum(axis=1)


def _shares(draws: Floats, rights: Floats, counts: Floats, measure: Measure) -> Floats:
    """Return the measure at each level of draws (R, G), shape (R, L); 1/2 where a draw has no clip of a class."""
    drawn, right = (np.tensordot(draws, cells, axes=1) for cells in (counts, rights))
    share = np.divide(right, drawn, out=np.full_like(right, 0.5), where=drawn > 0)
    return share[..., 0] if measure == "recall" else share.mean(axis=-1)


def _first_guess(x: Floats, shares: Floats) -> Floats:
    upper = float(np.clip(shares.max(), 0.1, 1.0))
    return np.array([x.mean(), np.ptp(x) / 4, float(shares.min()) / upper, upper])


def _fit(x: Floats, shares: Floats, weights: Floats, start: Floats, rates: Bounds) -> Floats:
    """Return (m, s, g, u) of the greatest likelihood; rates: the bounds of g and u."""
    span = float(np.ptp(x))
    unavoidable = xlogy(shares, shares) + xlogy(1.0 - shares, 1.0 - shares)

    def deviance(parameters: Floats) -> tuple[float, Floats]:
        p = np.clip(_curve(x, parameters), SMALLEST, 1.0 - SMALLEST)
        value = 2.0 * (weights * (unavoidable - xlogy(shares, p) - xlogy(1.0 - shares, 1.0 - p))).sum()
        return float(value), _curve_slopes(x, parameters) @ (2.0 * weights * (p - shares) / (p * (1.0 - p)))

    bounds = [(x[0] - span, x[-1] + span), (STEEPEST_SHARE * span, FLATTEST_SHARE * span), *rates]
    start = np.clip(start, *np.array(bounds).T)
    found: Floats = minimize(deviance, start, jac=True, bounds=bounds).x
    return found


def _curve(x: Floats, parameters: Floats) -> Floats:
    middle, scale, guess, upper = parameters
    return np.asarray(upper * (guess + (1.0 - guess) * expit((x - middle) / scale)))


def _curve_slopes(x: Floats, parameters: Floats) -> Floats:
    """Return the derivatives of the curve by (m, s, g, u), (4, L)."""
    middle, scale, guess, upper = parameters
    z = (x - middle) / scale
    rise = expit(z)
    by_z = upper * (1.0 - guess) * rise * (1.0 - rise) / scale
    return np.stack([-by_z, -by_z * z, upper * (1.0 - rise), guess + (1.0 - guess) * rise])


def _cross(target: float, x: Floats, parameters: Floats) -> float:
    """Return where the curve passes `target`; -inf when it is above it at the lowest level, inf when it never is."""
    low, high = _curve(x[[0, -1]], parameters)
    if low >= target:
        return -np.inf
    if high < target:
        return np.inf
    middle, scale, guess, upper = parameters
    share = (target / upper - guess) / (1.0 - guess)
    return float(middle + scale * np.log(share / (1.0 - share)))


def _crossing(
    target: float, x: Floats, fitted: Floats, refitted: Sequence[Floats], over: Over, tails: tuple[float, float]
) -> CrossingPoint:
    drawn = np.sort([_cross(target, x, parameters) for parameters in refitted])
    # Percentiles by position: an interpolation between a level and infinity would be neither.
    places = np.array([_cross(target, x, fitted), *(drawn[round(tail * (drawn.size - 1))] for tail in tails)])
    first, last, *numbers = np.array([x[0], x[-1], *places]) if over == "snr_db" else np.exp2([x[0], x[-1], *places])
    value, low, high = (float(n) if np.isfinite(p) else None for n, p in zip(numbers, places, strict=True))
    unit = "ms" if over == "duration_ms" else "dB"
    tested = f"({first:g} to {last:g} {unit})"
    shown = [
        f"below {first:g}" if p == -np.inf else f"above {last:g}" if p == np.inf else f"{n:.3g}"
        for n, p in zip(numbers, places, strict=True)
    ]
    if places[0] == np.inf:
        sentence = f"is not reached in the range tested {tested}; interval from {shown[1]} to {shown[2]} {unit}"
    elif places[0] == -np.inf:
        sentence = f"is reached at the lowest level tested {tested} already"
    elif low is None and high is None:
        value = None
        sentence = f"cannot be placed: its interval is wider than the range tested {tested}"
    else:
        sentence = f"at {shown[0]} {unit} [{shown[1]}, {shown[2]}]"
    return CrossingPoint(target, value, low, high, f"{target:.0%} {sentence}")
