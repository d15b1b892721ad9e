"""How often each nominal 95 % interval holds the truth, ours and others', over groups, shares and correlations.

Clips of a group are alike: right decisions are beta-binomial, scores normal with a group effect, both with a given
intra-class correlation; groups are of unequal size (1 to 40 clips, equally likely) or of 5 clips. "A hard tenth": a
group is hard with probability 0.1 and then right in 40 % of its clips. Balanced accuracy and the regret are simulated
with both classes alike. Beside ours: Wilson on clips, the cluster bootstrap, and statsmodels' GEE with exchangeable
correlation. Writes benchmarks/results/interval_coverage.json; about a quarter of an hour on one core.

    python benchmarks/interval_coverage.py
    python benchmarks/interval_coverage.py "gap between two tests (default)"    these tables alone, beside the others
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy.special import expit, logit, ndtr, ndtri
from threadpoolctl import threadpool_limits

from listenwell.data.clip import LABELS
from listenwell.evaluate.comparison import compare_auc, compare_balanced_accuracy, independent_difference
from listenwell.evaluate.intervals import Metric, Whole, balanced_accuracy_interval
from listenwell.evaluate.metrics import Bools, Floats
from listenwell.evaluate.psychometric import fit_curve
from listenwell.evaluate.ranking import auc_metric, ranking_metrics
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.shares import share_bounds, wilson
from listenwell.evaluate.transfer import measure_regret
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

SEED = 42
N_GROUPS, SHARES, ICCS = (5, 10, 20, 40), (0.75, 0.85, 0.9, 0.95, 0.98), (0.0, 0.1, 0.3, 0.5)
SIZES = ("1 to 40", "5")
HARD_SHARE, HARD_SHARES = 0.4, (0.85, 0.9, 0.935)
N_SHARES, N_GEE, N_AUC, N_EER, N_DIFFERENCES, N_REGRETS, N_GAPS, N_CURVES = 1000, 60, 300, 60, 300, 200, 200, 60
N_CURVE_DRAWS, N_BOOTSTRAP = 200, 500
N_WORST = 5
NOMINAL, AIM = 0.95, 0.935
Cell = dict[str, Any]
Bounds = tuple[float, float]


def main() -> None:
    """Simulate the cells of the named tables, of all by default, and write the JSON."""
    began = time.perf_counter()
    out = Path(__file__).parent / "results" / "interval_coverage.json"
    names = sys.argv[1:]
    kept = json.loads(out.read_text(encoding="utf-8"))["tables"] if names else {}
    report = {
        "claim": f"nominal 95 % intervals hold the truth in at least {AIM:.0%} of studies",
        "seed": SEED,
        "tables": kept | {name: summarise_cells(SIMULATIONS[name]()) for name in names or SIMULATIONS},
        "provenance": provenance(),
    }
    report["seconds"] = round(time.perf_counter() - began, 1)
    write_json(out, report)
    for name, table in report["tables"].items():
        print(name, json.dumps({key: table[key] for key in ("lowest", "n_cells", "n_below_aim", "mean_width")}))
    print(f"{report['seconds']} s, {out}")


def summarise_cells(cells: list[Cell]) -> dict[str, Any]:
    """The cells, the worst of them, and how many lie below the aim by more than the simulation's own error."""
    below = [cell for cell in cells if cell["coverage"] < AIM - 1.645 * (0.95 * 0.05 / cell["n_studies"]) ** 0.5]
    worst = sorted(cells, key=lambda cell: cell["coverage"])[:N_WORST]
    widths = {
        f"{n} groups of {sizes} clips": round(float(np.mean(found)), 4)
        for n, sizes in product(N_GROUPS, SIZES)
        if (found := [cell["mean_width"] for cell in cells if (cell["n_groups"], cell["sizes"]) == (n, sizes)])
    }
    return {
        "lowest": worst[0]["coverage"], "n_cells": len(cells), "n_below_aim": len(below), "mean_width": widths,
        "worst": worst, "cells": cells,
    }  # fmt: skip


def made_cell(bounds: list[Bounds], truth: float, n_groups: int, sizes: str, **cell: float) -> Cell:
    """One line of a table."""
    low, high = np.array(bounds).T
    return {
        "n_groups": n_groups, "sizes": sizes, "truth": round(truth, 4), **cell, "n_studies": len(bounds),
        "coverage": round(float(np.mean((low <= truth) & (truth <= high))), 4),
        "mean_width": round(float(np.mean(high - low)), 4),
    }  # fmt: skip


def draw_sizes(rng: np.random.Generator, sizes: str, n_groups: int) -> Whole:
    """Clips of each group, (n_groups,)."""
    return rng.integers(1, 41, n_groups) if sizes == "1 to 40" else np.full(n_groups, int(sizes))


def draw_rights(rng: np.random.Generator, m: Whole, share: float, icc: float, *, hard: bool) -> Floats:
    """Right clips of each group, (n_groups,)."""
    if hard:
        shares = np.where(rng.random(m.size) < 0.1, HARD_SHARE, (share - 0.1 * HARD_SHARE) / 0.9)
    else:
        spread = (1.0 - icc) / icc if icc else 0.0
        shares = rng.beta(share * spread, (1.0 - share) * spread, m.size) if icc else np.full(m.size, share)
    return rng.binomial(m, shares).astype(np.float64)


def cells_of_balanced_accuracy(
    bounds: Callable[[Floats, Floats], Bounds], n_studies: int, *, hard: bool = False
) -> list[Cell]:
    """Balanced accuracy by MOVER of an interval of a share: bounds(rights (G,), sizes (G,)) -> low, high."""
    cells = []
    grid = ((share, 0.0) for share in HARD_SHARES) if hard else product(SHARES, ICCS)
    for (share, icc), n_groups, sizes in product(list(grid), N_GROUPS, SIZES):
        rng = stream(SEED, "balanced", n_groups, str(share), str(icc), sizes, hard)
        found = []
        for _ in range(n_studies):
            halves = []
            for _ in LABELS:
                m = draw_sizes(rng, sizes, n_groups)
                rights = draw_rights(rng, m, share, icc, hard=hard)
                halves.append((rights.sum() / m.sum(), *bounds(rights, m.astype(np.float64))))
            value = sum(half[0] for half in halves) / 2
            below, above = (np.hypot(*(half[0] - half[side] for half in halves)) / 2 for side in (1, 2))
            found.append((value - below, value + above))
        cells.append(made_cell(found, share, n_groups, sizes, icc=icc))
    return cells


def clip_bounds(rights: Floats, sizes: Floats) -> Bounds:
    """Wilson's interval as if all clips were independent."""
    return wilson(rights.sum() / sizes.sum(), sizes.sum(), float(ndtri(0.975)))


def bootstrap_bounds(rights: Floats, sizes: Floats) -> Bounds:
    """Percentiles over draws of groups."""
    rng = stream(SEED, "bootstrap", len(sizes), int(rights.sum()), int(sizes.sum()))
    drawn = rng.integers(len(sizes), size=(N_BOOTSTRAP, len(sizes)))
    low, high = np.quantile(rights[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def gee_bounds(rights: Floats, sizes: Floats) -> Bounds:
    """Statsmodels' GEE: logit link, exchangeable correlation, robust standard error; [0, 1] where it does not fit."""
    right = np.concatenate([np.arange(m) < r for r, m in zip(rights, sizes, strict=True)]).astype(np.float64)
    if right.min() == right.max():
        return (1.0, 1.0) if right.all() else (0.0, 0.0)
    model = sm.GEE(
        right, np.ones(right.size), np.repeat(np.arange(sizes.size), sizes.astype(int)),
        family=sm.families.Binomial(), cov_struct=sm.cov_struct.Exchangeable(),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low, high = expit(model.fit().conf_int()[0])
    return (float(low), float(high)) if np.isfinite(low + high) else (0.0, 1.0)


def scored_study(
    rng: np.random.Generator, auc: float, icc: float, n_groups: int, sizes: str, n_methods: int = 1
) -> tuple[list[Floats], Bools, Whole]:
    """Scores of methods that share half of each group's effect, truth and groups; n_groups groups of each class."""
    m = draw_sizes(rng, sizes, 2 * n_groups)
    group = np.repeat(np.arange(2 * n_groups), m)
    is_speech = group < n_groups
    shared, clips = rng.normal(size=2 * n_groups), rng.normal(size=group.size)
    scores = []
    for _ in range(n_methods):
        effects, alone = shared, clips
        if n_methods > 1:
            effects, alone = ((each + rng.normal(size=each.size)) * 0.5**0.5 for each in (shared, clips))
        scores.append(alone * (1 - icc) ** 0.5 + effects[group] * icc**0.5 + is_speech * ndtri(auc) * 2**0.5)
    return scores, is_speech, group


def cells_of_auc() -> list[Cell]:
    """AUC by placements."""
    cells = []
    for n_groups, auc, icc, sizes in product(N_GROUPS, (0.75, 0.9, 0.97, 0.99), (0.0, 0.3, 0.5), SIZES):
        rng = stream(SEED, "auc", n_groups, str(auc), str(icc), sizes)
        found = []
        for _ in range(N_AUC):
            (score,), is_speech, group = scored_study(rng, auc, icc, n_groups, sizes)
            metric = auc_metric(score, is_speech, group)
            found.append((metric.low, metric.high))
        cells.append(made_cell(found, auc, n_groups, sizes, icc=icc))
    return cells


def cells_of_auc_differences() -> list[Cell]:
    """Difference of two equal AUCs whose scores share half of what makes clips and groups hard."""
    cells = []
    for n_groups, auc, icc, sizes in product(N_GROUPS, (0.75, 0.9, 0.97), (0.0, 0.3, 0.5), SIZES):
        rng = stream(SEED, "auc difference", n_groups, str(auc), str(icc), sizes)
        found = []
        for _ in range(N_AUC):
            (one, other), is_speech, group = scored_study(rng, auc, icc, n_groups, sizes, 2)
            gap = compare_auc(one, other, is_speech, group)
            found.append((gap.low, gap.high))
        cells.append(made_cell(found, 0.0, n_groups, sizes, icc=icc, auc=auc))
    return cells


def cells_of_regret() -> list[Cell]:
    """The regret of the best threshold, which is 0, and of one that is off by half a standard deviation."""
    cells = []
    for n_groups, auc, icc, off in product(N_GROUPS, (0.9, 0.97), (0.0, 0.3), (0.0, 0.5)):
        rng = stream(SEED, "regret", n_groups, str(auc), str(icc), str(off))
        gap = float(ndtri(auc)) * 2**0.5
        truth = float(ndtr(gap / 2) - (ndtr(gap / 2 - off) + ndtr(gap / 2 + off)) / 2)
        found = []
        for _ in range(N_REGRETS):
            (score,), is_speech, group = scored_study(rng, auc, icc, n_groups, "5")
            metric = measure_regret(gap / 2 + off, made_table(score, is_speech, group), SEED)
            found.append((metric.low, metric.high))
        cells.append(made_cell(found, truth, n_groups, "5", icc=icc, auc=auc, excludes_0=excluding(found)))
    return cells


def cells_of_gaps() -> list[Cell]:
    """Balanced accuracy of one test minus that of another, of other groups."""
    cells = []
    levels = ((0.95, 0.95), (0.95, 0.9), (0.98, 0.9), (0.9, 0.75))
    for (known, foreign), icc, n_groups, sizes in product(levels, ICCS, N_GROUPS[:3], SIZES):
        rng = stream(SEED, "gap", n_groups, str(known), str(foreign), str(icc), sizes)
        found = []
        for _ in range(N_GAPS):
            gap = independent_difference(*(decided_study(rng, each, icc, n_groups, sizes) for each in (known, foreign)))
            found.append((gap.low, gap.high))
        cells.append(made_cell(found, known - foreign, n_groups, sizes, icc=icc, foreign=foreign))
    return cells


def decided_study(rng: np.random.Generator, share: float, icc: float, n_groups: int, sizes: str) -> Metric:
    """Balanced accuracy of a study with n_groups groups of each class."""
    m = draw_sizes(rng, sizes, 2 * n_groups)
    rights = draw_rights(rng, m, share, icc, hard=False).astype(np.intp)
    is_right = np.concatenate([np.arange(of_group) < right for of_group, right in zip(m, rights, strict=True)])
    group = np.repeat(np.arange(m.size), m)
    is_speech = group < n_groups
    return balanced_accuracy_interval(is_right == is_speech, is_speech, group)


def excluding(found: list[Bounds]) -> float:
    """Share of the intervals that lie above 0."""
    return round(float(np.mean([low > 0 for low, _ in found])), 4)


def made_table(score: Floats, is_speech: Bools, group: Whole) -> ScoreTable:
    """The scores as a table of clean clips of one second."""
    n = score.size
    return ScoreTable(
        clip_id=np.arange(n).astype(str), group=group.astype(str), label=np.where(is_speech, *LABELS), score=score,
        duration_ms=np.full(n, 1000.0), snr_db=np.full(n, np.nan), condition=np.full(n, "clean"),
    )  # fmt: skip


def cells_of_equal_error() -> list[Cell]:
    """Equal error rate by draws of groups; 5 clips of each group."""
    cells = []
    for n_groups, rate, icc in product(N_GROUPS, (0.25, 0.1, 0.05), (0.0, 0.3, 0.5)):
        rng = stream(SEED, "eer", n_groups, str(rate), str(icc))
        found = []
        for _ in range(N_EER):
            (score,), is_speech, group = scored_study(rng, auc_of(rate), icc, n_groups, "5")
            metrics = ranking_metrics(score, is_speech, group, SEED)
            metric = next(each for each in metrics if each.name == "equal_error_rate")
            found.append((metric.low, metric.high))
        cells.append(made_cell(found, rate, n_groups, "5", icc=icc))
    return cells


def auc_of(equal_error_rate: float) -> float:
    """AUC of two normal classes of equal spread with this equal error rate: d' = -2 z(EER), AUC = Phi(d' / sqrt 2)."""
    return float(ndtr(-2.0 * ndtri(equal_error_rate) / 2**0.5))


def cells_of_differences() -> list[Cell]:
    """Difference of balanced accuracies between two methods; own: the share of the group effect that is a method's."""
    cells = []
    pairs = ((0.95, 0.95), (0.98, 0.94), (0.9, 0.85), (0.8, 0.75))
    for n_groups, (a, b), (icc, own), sizes in product(
        N_GROUPS, pairs, ((0.0, 0.0), (0.3, 0.3), (0.3, 1.0), (0.5, 0.5)), SIZES
    ):
        rng = stream(SEED, "difference", n_groups, str(a), str(b), str(icc), str(own), sizes)
        found = []
        for _ in range(N_DIFFERENCES):
            m = draw_sizes(rng, sizes, 2 * n_groups)
            group = np.repeat(np.arange(2 * n_groups), m)
            is_speech = group < n_groups
            shared, clip = rng.normal(size=2 * n_groups), rng.normal(size=group.size)
            says = []
            for share in (a, b):
                effects = shared * (1 - own) ** 0.5 + rng.normal(size=shared.size) * own**0.5
                alone = (clip + rng.normal(size=clip.size)) * 0.5**0.5
                says.append((effects[group] * icc**0.5 + alone * (1 - icc) ** 0.5 < ndtri(share)) == is_speech)
            gap = compare_balanced_accuracy(says[0], says[1], is_speech, group, SEED)
            found.append((gap.low, gap.high))
        cells.append(made_cell(found, a - b, n_groups, sizes, icc=icc, own=own, share=a))
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
        cells.append(made_cell(bounds, true, n_groups, "5", icc=0.0))
    return cells


def _or_end(bound: float | None, end: float) -> float:
    """The bound, or the end of the range tested where it lies beyond."""
    return float(end) if bound is None else bound


SIMULATIONS: dict[str, Callable[[], list[Cell]]] = {
    "balanced accuracy (default)": lambda: cells_of_balanced_accuracy(share_bounds, N_SHARES),
    "balanced accuracy, Wilson on clips": lambda: cells_of_balanced_accuracy(clip_bounds, N_SHARES),
    "balanced accuracy, cluster bootstrap": lambda: cells_of_balanced_accuracy(bootstrap_bounds, N_SHARES),
    "balanced accuracy, GEE": lambda: cells_of_balanced_accuracy(gee_bounds, N_GEE),
    "balanced accuracy, a hard tenth (default)": lambda: cells_of_balanced_accuracy(share_bounds, N_SHARES, hard=True),
    "AUC (default)": cells_of_auc,
    "difference of AUCs (default)": cells_of_auc_differences,
    "difference of balanced accuracies (default)": cells_of_differences,
    "regret (default)": cells_of_regret,
    "gap between two tests (default)": cells_of_gaps,
    "equal error rate (default)": cells_of_equal_error,
    "SNR at 75 % recall (default)": cells_of_curves,
}

if __name__ == "__main__":
    with threadpool_limits(1):
        main()
