"""How far the seeds of the delivered config agree, clip by clip, each at its own threshold of dev.

An error that all seeds make is the data's or the recipe's, and no further seed mends it; an error of one seed alone is
chance of training. Arithmetic on score tables. K seeds, n clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.intervals import proportion
from listenwell.evaluate.metrics import Bools
from listenwell.evaluate.scores import ScoreTable
from listenwell.study.arms import FINAL
from listenwell.study.ladder import Fits, decide_by_arm

N_LISTED = 20


def judge_seed_agreement(
    fits: Fits,
    tables: Mapping[str, Mapping[str, ScoreTable]],
    thresholds: Mapping[str, Threshold],
    method_of: Mapping[str, str],
    test_sets: Sequence[str],
) -> list[dict[str, Any]]:
    """Return one record per test set and condition (clean, and all noisy ones together); none for a single seed.

    tables: part -> method -> scores; method_of: fit name -> method.
    """
    seeds = {FINAL: [(arm, fit) for arm, fit in fits if arm.name == FINAL]}
    if len(seeds[FINAL]) < 2:
        return []
    return [
        {**place, **describe_agreement(decided[FINAL], table)}
        for place, table, decided in decide_by_arm(seeds, tables, thresholds, method_of, test_sets)
    ]


def describe_agreement(decided: Mapping[int, Bools], table: ScoreTable) -> dict[str, Any]:
    """Return how the seeds' decisions (n,) agree, as JSON values.

    agreement: share of the clips on which all seeds decide alike, its interval counting groups. wrong_by: for every
    number of seeds from 1 to K the clips that exactly so many decide wrongly, and their groups. wrong_by_all: the first
    N_LISTED of those that all do, in the order of the table.
    """
    is_wrong = np.stack([found != table.is_speech for found in decided.values()])  # (K, n)
    n_seeds, n_wrong = len(decided), is_wrong.sum(axis=0)
    by_all = np.flatnonzero(n_wrong == n_seeds)
    return {
        "seeds": list(decided),
        "n_wrong": [int(each.sum()) for each in is_wrong],
        "agreement": asdict(proportion("agreement", (n_wrong == 0) | (n_wrong == n_seeds), table.group)),
        "wrong_by": [
            {"n_seeds": k, "n": int((n_wrong == k).sum()), "n_groups": len(set(table.group[n_wrong == k].tolist()))}
            for k in range(1, n_seeds + 1)
        ],
        "wrong_by_all": [
            {name: str(getattr(table, name)[i]) for name in ("clip_id", "group", "label", "condition")}
            for i in by_all[:N_LISTED]
        ],
    }
