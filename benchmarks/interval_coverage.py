"""How often each nominal 95 % interval holds the truth, over numbers of groups, shares and correlations.

Clips of a group are alike: right decisions are beta-binomial, scores normal with a group effect, both with a given
intra-class correlation. Writes benchmarks/results/interval_coverage.json; under five minutes on one core.

    python benchmarks/interval_coverage.py
"""

import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.intervals import Whole, share_bounds, wilson_bounds
from listenwell.evaluate.metrics import Bools, Floats
from listenwell.evaluate.psychometric import fit_curve
from listenwell.evaluate.ranking import auc_metric, ranking_metrics
from listenwell.evaluate.scores import ScoreTable
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

SEED = 42
N_GROUPS, SHARES, ICCS = (5, 10, 30, 60), (0.5, 0.75, 0.9, 0.95, 0.98), (0.0, 0.1, 0.3, 0.5)
CLIPS_PER_GROUP = (5, 20)
N_SHARES, N_AUC, N_EER, N_DIFFERENCES, N_CURVES = 4000, 400, 80, 300, 60
N_CURVE_DRAWS = 200
N_WORST = 5
NOMINAL, AIM = 0.95, 0.93
Cell = dict[str, Any]


def main() -> None:
    """Simulate every cell and write the JSON."""
    began = time.perf_counter()
    report = {
        "claim": f"nominal 95 % intervals hold the truth in at least {AIM:.0%} of studies",
        "seed": SEED,
        "clips_per_group": list(CLIPS_PER_GROUP),
        "tables": {name: summarise_cells(simulate()) for name, simulate in SIMULATIONS.items()},
        "provenance": provenance(),
    }
    report["seconds"] = round(time.perf_counter() - began, 1)
    out = Path(__file__).parent / "results" / "interval_coverage.json"
    write_json(out, report)
    for name, table in report["tables"].items():
        print(name, json.dumps({key: table[key] for key in ("lowest", "n_cells", "n_below_aim")}))
    print(f"{report['seconds']} s, {out}")


def summarise_cells(cells: list[Cell]) -> dict[str, Any]:
    """The cells, the worst of them, and how many lie below the aim by more than the simulation's own error."""
    below = [cell for cell in cells if cell["coverage"] < AIM - 1.645 * (0.95 * 0.05 / cell["n_studies"]) ** 0.5]
    worst = sorted(cells, key=lambda cell: cell["coverage"])[:N_WORST]
    return {
        "lowest": worst[0]["coverage"], "n_cells": len(cells), "n_below_aim": len(below), "worst": worst,
        "cells": cells,
    }  # fmt: skip


def made_cell(covered: Bools, widths: Floats, n_groups: int, value: float, icc: float, m: int) -> Cell:
    """One line of a table."""
    return {
        "n_groups": n_groups, "value": value, "icc": icc, "clips_per_group": m, "n_studies": len(covered),
        "coverage": round(float(np.mean(covered)), 4), "mean_width": round(float(np.mean(widths)), 4),
    }  # fmt: skip


def correlated_rights(rng: np.random.Generator, share: float, icc: float, n_groups: int, m: int, n: int) -> Floats:
    """Right clips of each group in n studies, (n, n_groups)."""
    spread = (1.0 - icc) / icc if icc else 0.0
    shares = rng.beta(share * spread, (1.0 - share) * spread, (n, n_groups)) if icc else np.full((n, n_groups), share)
    return rng.binomial(m, shares).astype(np.float64)


def cells_of_shares(bounds: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> list[Cell]:
    """Coverage of an interval of a share: bounds(rights (n, G), sizes (G,)) -> low, high (n,)."""
    cells = []
    for n_groups, share, icc, m in product(N_GROUPS, SHARES, ICCS, CLIPS_PER_GROUP):
        rng = stream(SEED, "shares", n_groups, str(share), str(icc), m)
        low, high = bounds(correlated_rights(rng, share, icc, n_groups, m, N_SHARES), np.full(n_groups, float(m)))
        cells.append(made_cell((low <= share) & (share <= high), high - low, n_groups, share, icc, m))
    return cells


def naive_bounds(rights: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Wilson's interval as if all clips were independent."""
    return wilson_bounds(rights.sum(axis=1) / sizes.sum(), sizes.sum(), float(ndtri(0.975)))


def bootstrap_bounds(rights: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Percentiles over 500 draws of groups."""
    rng = stream(SEED, "naive bootstrap", len(sizes), int(sizes[0]))
    weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), 500) / sizes.sum()
    low, high = np.quantile(rights @ weights.T, (0.025, 0.975), axis=1)
    return low, high


def balanced_bounds() -> list[Cell]:
    """Balanced accuracy (MOVER): both classes with the same share, groups and correlation."""
    cells = []
    for n_groups, share, icc, m in product(N_GROUPS, SHARES, ICCS, CLIPS_PER_GROUP):
        rng = stream(SEED, "balanced", n_groups, str(share), str(icc), m)
        sizes = np.full(n_groups, float(m))
        halves = []
        for _ in range(2):
            rights = correlated_rights(rng, share, icc, n_groups, m, N_SHARES)
            halves.append((rights.sum(axis=1) / sizes.sum(), *share_bounds(rights, sizes)))
        value = (halves[0][0] + halves[1][0]) / 2
        low = value - np.hypot(*(v - lower for v, lower, _ in halves)) / 2
        high = value + np.hypot(*(upper - v for v, _, upper in halves)) / 2
        cells.append(made_cell((low <= share) & (share <= high), high - low, n_groups, share, icc, m))
    return cells


def scored_study(
    rng: np.random.Generator, auc: float, icc: float, n_groups: int, m: int
) -> tuple[Floats, Bools, Whole]:
    """Scores, truth and groups of n_groups groups of m clips in each class."""
    n = n_groups * m
    group = np.repeat(np.arange(2 * n_groups), m)
    is_speech = np.arange(2 * n) < n
    effects = np.repeat(rng.normal(size=2 * n_groups), m)
    score = rng.normal(size=2 * n) * (1 - icc) ** 0.5 + effects * icc**0.5 + is_speech * ndtri(auc) * 2**0.5
    return score, is_speech, group


def cells_of_auc() -> list[Cell]:
    """AUC by placements; n_groups of each class."""
    cells = []
    for n_groups, auc, icc, m in product(N_GROUPS, (0.75, 0.9, 0.97, 0.99), (0.0, 0.3, 0.5), CLIPS_PER_GROUP):
        rng = stream(SEED, "auc", n_groups, str(auc), str(icc), m)
        found = [auc_metric(*scored_study(rng, auc, icc, n_groups, m)) for _ in range(N_AUC)]
        bounds = np.array([(each.low, each.high) for each in found])
        covered = (bounds[:, 0] <= auc) & (auc <= bounds[:, 1])
        cells.append(made_cell(covered, np.ptp(bounds, axis=1), n_groups, auc, icc, m))
    return cells


def cells_of_equal_error() -> list[Cell]:
    """Equal error rate by draws of groups; n_groups of 5 clips of each class."""
    cells = []
    for n_groups, rate, icc in product(N_GROUPS, (0.25, 0.1, 0.05), (0.0, 0.3, 0.5)):
        rng = stream(SEED, "eer", n_groups, str(rate), str(icc))
        auc = auc_of(rate)
        found = []
        for _ in range(N_EER):
            metrics = ranking_metrics(*scored_study(rng, auc, icc, n_groups, 5), SEED)
            found.append(next(each for each in metrics if each.name == "equal_error_rate"))
        bounds = np.array([(each.low, each.high) for each in found])
        covered = (bounds[:, 0] <= rate) & (rate <= bounds[:, 1])
        cells.append(made_cell(covered, np.ptp(bounds, axis=1), n_groups, rate, icc, 5))
    return cells


def auc_of(equal_error_rate: float) -> float:
    """AUC of two normal classes of equal spread with this equal error rate: d' = -2 z(EER), AUC = Phi(d' / sqrt 2)."""
    return float(ndtr(-2.0 * ndtri(equal_error_rate) / 2**0.5))


def cells_of_differences() -> list[Cell]:
    """Difference of balanced accuracies between two methods whose errors share the groups; 5 clips of each group."""
    cells = []
    for n_groups, share, icc in product(N_GROUPS, (0.75, 0.9, 0.95), (0.0, 0.3, 0.5)):
        rng = stream(SEED, "difference", n_groups, str(share), str(icc))
        is_speech, group = np.arange(10 * n_groups) < 5 * n_groups, np.repeat(np.arange(2 * n_groups), 5)
        better = share + 0.03
        bounds = []
        for _ in range(N_DIFFERENCES):
            effects = np.repeat(rng.normal(size=2 * n_groups), 5) * icc**0.5
            ease = effects + rng.normal(size=is_speech.size) * (1 - icc) ** 0.5
            # Half of what makes a clip hard is the method's own.
            own = rng.normal(size=(2, is_speech.size))
            a, b = (0.5**0.5 * ease + 0.5**0.5 * each < ndtri(p) for each, p in zip(own, (better, share), strict=True))
            found = compare_balanced_accuracy(a == is_speech, b == is_speech, is_speech, group, SEED)
            bounds.append((found.low, found.high))
        low, high = np.array(bounds).T
        cells.append(made_cell((low <= 0.03) & (high >= 0.03), high - low, n_groups, share, icc, 5))
    return cells


def cells_of_curves() -> list[Cell]:
    """SNR at 75 % recall, read off a curve fitted to six SNRs; n_groups of 5 speech clips."""
    cells, snrs_db = [], np.array([-10.0, -5.0, 0.0, 5.0, 10.0, 20.0])
    found = 0.5 + 0.48 * expit(snrs_db / 3.0)
    true = 3.0 * float(logit((0.75 - 0.5) / 0.48))
    for n_groups in N_GROUPS:
        rng = stream(SEED, "curve", n_groups)
        bounds = []
        for _ in range(N_CURVES):
            n = 5 * n_groups
            right = rng.random((snrs_db.size, n)) < found[:, None]
            table = ScoreTable(
                clip_id=np.tile([f"c{i}" for i in range(n)], snrs_db.size),
                group=np.tile([f"g{i // 5}" for i in range(n)], snrs_db.size),
                label=np.full(right.size, "SPEECH"),
                score=np.where(right, 1.0, -1.0).ravel(),
                duration_ms=np.full(right.size, 1000.0),
                snr_db=np.repeat(snrs_db, n),
                condition=np.repeat([f"snr_{snr:g}" for snr in snrs_db], n),
            )
            (point,) = fit_curve(table, 0.0, "snr_db", "recall", SEED, N_CURVE_DRAWS).points
            bounds.append((_or_end(point.low, snrs_db[0]), _or_end(point.high, snrs_db[-1])))
        low, high = np.array(bounds).T
        cells.append(made_cell((low <= true) & (true <= high), high - low, n_groups, round(true, 4), 0.0, 5))
    return cells


def _or_end(bound: float | None, end: float) -> float:
    """The bound, or the end of the range tested where it lies beyond."""
    return float(end) if bound is None else bound


SIMULATIONS: dict[str, Callable[[], list[Cell]]] = {
    "share: Wilson, design effect, t (default)": lambda: cells_of_shares(share_bounds),
    "share: Wilson, clips as if independent": lambda: cells_of_shares(naive_bounds),
    "share: cluster bootstrap, percentiles": lambda: cells_of_shares(bootstrap_bounds),
    "balanced accuracy: MOVER (default)": balanced_bounds,
    "AUC: placements by group, Wilson's form, t (default)": cells_of_auc,
    "equal error rate: draws of groups, Wilson's form, t (default)": cells_of_equal_error,
    "difference of balanced accuracies: linearised, t (default)": cells_of_differences,
    "SNR at 75 % recall: curves fitted to draws of groups, percentiles (default)": cells_of_curves,
}

if __name__ == "__main__":
    main()
