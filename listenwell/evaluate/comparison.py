"""Compare two detectors on the same clips by group: the difference of their balanced accuracies, and of their AUCs.

Balanced accuracy: d_c is the share of the N_c clips of class c on which only A is right minus that on which only B is;
the difference is (d_speech + d_nonspeech) / 2. Two intervals, and the wider side of each counts:

- its standard error over groups by linearisation (Cochran 1977, chapter 6),
      z_g = sum_c (sum_{i in g, c} (a_i - b_i) - d_c n_gc) / (2 N_c),
      var = sum_strata k / (k - 1) sum_g (z_g - mean z)^2,
  strata = speech groups, non-speech groups, groups of both; times t with (groups of the smaller class - 1) degrees of
  freedom. Alone it covers .87 where both are right in .94 to .98 of ten groups' clips: few groups differ at all.
- the two shares of each class with their Wilson intervals by group (`shares.spread_bounds`), combined as independent
  (MOVER: Zou & Donner 2008, Stat. Med. 27:1693).

p value: paired cluster permutation, the two methods exchanged within whole groups (a random p value counts itself:
Phipson & Smyth 2010, SAGMB 9:39). `holm` corrects a declared family of tests, `max_t` all others together, from the
same exchanges, so that what the tests have in common is not paid for twice (Westfall & Young 1993).

AUC: the variance of the differences of group sums of placements (DeLong et al. 1988, Biometrics 44:837; for groups
Obuchowski 1997, Biometrics 53:567), with t. Simulated coverage of all: docs/statistics.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from listenwell.evaluate.intervals import (
    Groups,
    Metric,
    class_sums,
    few_groups_note,
    linearised_error,
    number_groups,
    seed_values,
    stratified_error,
)
from listenwell.evaluate.metrics import Bools, Floats, require_classes, roc_auc
from listenwell.evaluate.ranking import auc_contributions, fewest_groups
from listenwell.evaluate.shares import CONFIDENCE, spread_bounds, t_quantile
from listenwell.random_streams import stream

N_PERMUTATIONS = 10_000
MOST_GROUPS_EXACT = 13
"""Up to this many differing groups all 2^k sign patterns are counted."""
Outcome = Literal["better", "worse", "cannot tell"]
POWER = 0.8
ONE_SEED = "one seed says nothing about other seeds"
SIGNS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A measure of A minus that of B with its 95 % interval and two-sided p value.

    detectable: the true difference that studies of this kind tell from 0 in POWER of the cases, as far as the standard
    error over groups says; None where that is unknown.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_groups: int
    method: str
    note: str = ""
    detectable: float | None = None


def compare_balanced_accuracy(
    a_says_speech: Bools, b_says_speech: Bools, is_speech: Bools, group: Groups, seed: int
) -> PairedDifference:
    """Return how much more balanced accuracy method A has than B on the same n clips; arrays (n,).

    Where a class has one group, nothing is known of other groups, and the interval is [-1, 1]. Raises ManifestError
    when a class is missing.
    """
    a_is_right, b_is_right = ((says == is_speech).astype(np.float64) for says in (a_says_speech, b_says_speech))
    return _compare_rights(a_is_right, b_is_right, is_speech, group, seed)


def compare_over_seeds(
    a_says_speech: Bools, b_says_speech: Bools, is_speech: Bools, group: Groups, seed: int
) -> PairedDifference:
    """Return how much more balanced accuracy the seeds of A have on average than those of B.

    a_says_speech (S, n) and b_says_speech (T, n): decisions of every seed's fit on the same n clips. The interval holds
    what groups and what seeds leave open: the half of each as if it were alone, joined as independent ones; that of the
    seeds takes t with Welch's degrees of freedom. With one seed of either nothing is known of other seeds, which the
    note says. Raises ManifestError when a class is missing.
    """
    rights = [says == is_speech for says in (a_says_speech, b_says_speech)]
    variances, freedoms, alone = [], [], False
    for of_seeds in rights:
        values = seed_values(of_seeds.astype(np.float64), is_speech)
        if len(values) > 1:
            variances.append(float(np.var(values, ddof=1)) / len(values))
            freedoms.append(len(values) - 1)
        alone |= len(values) == 1
    total = sum(variances)
    half = 0.0
    if total > 0:
        freedom = total**2 / sum(v**2 / k for v, k in zip(variances, freedoms, strict=True))
        half = t_quantile(freedom + 1.0) * sqrt(total)
    found = _compare_rights(rights[0].mean(axis=0), rights[1].mean(axis=0), is_speech, group, seed, half)
    return replace(found, note=f"{found.note}; {ONE_SEED}".removeprefix("; ")) if alone else found


def independent_difference(first: Metric, second: Metric) -> Metric:
    """Return first minus second of a measure on different groups, with its MOVER interval."""
    difference = first.value - second.value
    below = float(np.hypot(first.value - first.low, second.high - second.value))
    above = float(np.hypot(first.high - first.value, second.value - second.low))
    n, n_groups = first.n + second.n, first.n_groups + second.n_groups
    return Metric("difference", difference, difference - below, difference + above, n, n_groups, "MOVER", "")


def _compare_rights(
    a_is_right: Floats, b_is_right: Floats, is_speech: Bools, group: Groups, seed: int, half_of_seeds: float = 0.0
) -> PairedDifference:
    """Compare how often two methods are right on each clip, shares (n,)."""
    contributions, counts = paired_contributions(a_is_right, b_is_right, is_speech, group)
    member, n_groups = number_groups(group)
    fewest = int((counts > 0).sum(axis=0).min())
    difference = float(contributions.sum())
    below, above, error = 2.0, 2.0, 0.0
    if fewest > 1:
        only_a = class_sums(a_is_right * (1.0 - b_is_right), is_speech, member, n_groups)
        only_b = class_sums(b_is_right * (1.0 - a_is_right), is_speech, member, n_groups)
        error = linearised_error(only_a - only_b, counts)
        half = t_quantile(fewest) * error
        one, other = (_discordant_halves(*shares, counts) for shares in ((only_a, only_b), (only_b, only_a)))
        below, above = (hypot(max(half, side), half_of_seeds) for side in (one, other))
    return PairedDifference(
        difference,
        max(-1.0, difference - below),
        min(1.0, difference + above),
        permutation_p_value(contributions, seed),
        len(is_speech),
        n_groups,
        "linearised and MOVER over groups; paired cluster permutation",
        _note(n_groups, fewest, is_equal=np.array_equal(a_is_right, b_is_right)),
        _detectable(hypot(error, half_of_seeds / t_quantile(fewest)), fewest),
    )


def _detectable(error: float, n_groups: float) -> float | None:
    """Return the difference found with probability POWER at this standard error (Julious 2004, Stat. Med. 23:1921)."""
    return error * (t_quantile(n_groups) + float(stdtrit(n_groups - 1.0, POWER))) if error > 0 else None


def paired_contributions(
    a_is_right: Bools | Floats, b_is_right: Bools | Floats, is_speech: Bools, group: Groups
) -> tuple[Floats, Floats]:
    """Return what each group adds to the difference of the balanced accuracies, (G,), and its clips by class, (G, 2).

    Raises ManifestError when a class is missing.
    """
    require_classes(is_speech, "comparison")
    gain = np.asarray(a_is_right, dtype=np.float64) - b_is_right
    member, n_groups = number_groups(group)
    counts = class_sums(np.ones_like(gain), is_speech, member, n_groups)
    gains = class_sums(gain, is_speech, member, n_groups)
    return (gains / counts.sum(axis=0)).sum(axis=1) / 2, counts


def _discordant_halves(wins: Floats, losses: Floats, counts: Floats) -> float:
    """Return how far below the measured difference the truth may lie; wins, losses, counts: (G, 2)."""
    squares = 0.0
    for won, lost, sizes in zip(wins.T, losses.T, counts.T, strict=True):
        of_class = sizes > 0
        total = sizes.sum()
        low, _ = spread_bounds(won[of_class], sizes[of_class])
        _, high = spread_bounds(lost[of_class], sizes[of_class])
        squares += hypot(won.sum() / total - low, high - lost.sum() / total) ** 2
    return sqrt(squares) / 2


def permutation_p_value(contributions: Floats, seed: int) -> float:
    """Return the two-sided p value of sum(contributions) when each group's sign is as likely + as -.

    contributions: (G,). Exact up to MOST_GROUPS_EXACT groups that differ from 0, random above.
    """
    return max_t(contributions[None], seed)[0]


def name_contributions(
    a_is_right: Bools | Floats, b_is_right: Bools | Floats, is_speech: Bools, group: NDArray[np.str_]
) -> dict[str, float]:
    """Return what each group adds to the difference of the balanced accuracies, by its name."""
    contributions, _ = paired_contributions(a_is_right, b_is_right, is_speech, group)
    return dict(zip(dict.fromkeys(group.tolist()), contributions.tolist(), strict=True))


def correct_together(differences: Sequence[Mapping[str, float]], seed: int) -> list[float]:
    """Return `max_t` of differences that need not have all groups in common: contributions by group, at least one."""
    names = {name: place for place, name in enumerate(sorted({name for each in differences for name in each}))}
    table = np.zeros((len(differences), len(names)))
    for row, each in zip(table, differences, strict=True):
        row[[names[name] for name in each]] = list(each.values())
    return max_t(table, seed)


def max_t(families: Floats, seed: int) -> list[float]:
    """Return the p values of several differences on the same groups, corrected together; families (n, G).

    The step-down of the largest |t| over sign flips of whole groups (Westfall & Young 1993; Ge, Dudoit & Speed 2003,
    Test 12:1), t the sum over the root of the sum of squares. One family alone is the plain permutation test.
    """
    table = families.T
    table = table[(table != 0).any(axis=1)]
    scale = np.sqrt(np.square(table).sum(axis=0))
    table = table / np.where(scale > 0, scale, 1.0)
    observed = np.abs(table.sum(axis=0)) - 1e-12
    order = np.argsort(-observed, kind="stable")
    n_extreme, n_flips = np.zeros(len(families)), 0
    for signs in _sign_flips(len(table), seed):
        drawn = np.abs(signs @ table[:, order])
        largest = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        n_extreme += (largest >= observed[order]).sum(axis=0)
        n_flips += len(signs)
    counts_itself = int(len(table) > MOST_GROUPS_EXACT)
    stepped = np.maximum.accumulate((n_extreme + counts_itself) / (n_flips + counts_itself))
    corrected = np.empty(len(families))
    corrected[order] = stepped
    return [float(p) for p in corrected]


def _sign_flips(k: int, seed: int) -> Iterator[Floats]:
    """Yield sign patterns of k groups in chunks, each (chunk, k): all of them for few groups, random ones else."""
    if k <= MOST_GROUPS_EXACT:
        yield 1.0 - 2.0 * ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64)
        return
    rng, at_once = stream(seed, "permutation"), max(1, SIGNS_AT_ONCE // k)
    for done in range(0, N_PERMUTATIONS, at_once):
        flips = rng.integers(0, 2, size=(min(at_once, N_PERMUTATIONS - done), k), dtype=np.int8)
        yield 1.0 - 2.0 * flips.astype(np.float64)


def _note(n_groups: int, fewest: int, *, is_equal: bool) -> str:
    if fewest == 1:
        return "one group in a class says nothing about other groups, so the width of the interval is unknown"
    if is_equal:
        return "the two methods never differ; the interval is what so many clips leave possible"
    return few_groups_note(n_groups)


def compare_auc(a_score: Floats, b_score: Floats, is_speech: Bools, group: Groups) -> PairedDifference:
    """Return how much more AUC the scores of A have than those of B on the same n clips; arrays (n,).

    As if half a clip of the smaller class were ranked the other way, so that equal rankings do not look certain. Where
    a class has one group the interval is [-1, 1] and p is 1. Raises ManifestError when a class is missing.
    """
    require_classes(is_speech, "comparison of AUCs")
    difference = roc_auc(a_score, is_speech) - roc_auc(b_score, is_speech)
    member, n_groups = number_groups(group)
    counts = class_sums(np.ones(len(is_speech)), is_speech, member, n_groups)
    fewest = int((counts > 0).sum(axis=0).min())
    low, high, p_value, error, worth = -1.0, 1.0, 1.0, 0.0, 2.0
    if fewest > 1:
        gaps = [auc_contributions(score, is_speech, member, n_groups) for score in (a_score, b_score)]
        error = hypot(stratified_error(gaps[0] - gaps[1], counts), 0.25 / float(counts.sum(axis=0).min()))
        worth = fewest_groups(counts)
        half = t_quantile(worth) * error
        low, high = max(-1.0, difference - half), min(1.0, difference + half)
        p_value = float(2.0 * stdtr(max(worth - 1.0, 1.0), -abs(difference) / error))
    return PairedDifference(
        difference, low, high, p_value, len(is_speech), n_groups, "placements by group, t",
        _note(n_groups, fewest, is_equal=bool(np.array_equal(a_score, b_score))), _detectable(error, worth),
    )  # fmt: skip


def outcome_of(difference: PairedDifference, p_adjusted: float) -> Outcome:
    """Better or worse where the interval and the corrected p value both say so; never "equal"."""
    if p_adjusted >= 1.0 - CONFIDENCE or difference.low <= 0.0 <= difference.high:
        return "cannot tell"
    return "better" if difference.difference > 0 else "worse"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of a declared family corrected by Holm's step-down (1979, Scand. J. Stat. 6:65)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]
