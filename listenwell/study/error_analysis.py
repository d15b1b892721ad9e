"""Which clips the fine-tuned model decides wrongly: by group, the worst ones, those to listen to, and who else erred.

Arithmetic on score tables; every error knows how far its score lies beyond the threshold, on the wrong side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.evaluate.calibration import Threshold, choose_threshold
from listenwell.evaluate.metrics import Bools, decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.evaluate.summary import PartMetric, summarise_parts
from listenwell.study.detectors import FINE_TUNED

N_WORST = 20
N_HEARD, N_HEARD_CLEAN = 10, 5
"""Errors of a test set to listen to; so many of them clean before any other condition comes a second time."""


def list_errors(
    tables: Mapping[str, ScoreTable], dev: Mapping[str, ScoreTable], threshold: Threshold
) -> dict[str, Any]:
    """Return the errors of one test set as JSON values: clean ones, and under any condition those to listen to.

    tables, dev: method -> its scores of the test set and of dev. threshold: the fine-tuned model's.
    """
    clean = {method: table.select(table.condition == CLEAN) for method, table in tables.items()}
    ours = clean[FINE_TUNED]
    is_wrong = decide(ours.score, threshold.value) != ours.is_speech
    return {
        "n": len(ours),
        "n_wrong": int(is_wrong.sum()),
        "groups": [_describe_group(each) for each in summarise_parts(ours, threshold.value, "group")],
        "worst": _rank_errors(ours, threshold.value)[:N_WORST],
        "heard": _choose_heard(_rank_errors(tables[FINE_TUNED], threshold.value)),
        "agreement": _agree(clean, is_wrong, dev),
    }


def _describe_group(part: PartMetric) -> dict[str, Any]:
    metric = part.metric
    return {
        "group": part.part,
        "label": part.label,
        "n": metric.n,
        "n_wrong": round(metric.n * (1.0 - metric.value)),
        "right": metric.value,
        "low": metric.low,
        "high": metric.high,
    }


def _rank_errors(table: ScoreTable, threshold: float) -> list[dict[str, Any]]:
    """Every wrongly decided row, the one furthest beyond the threshold first."""
    is_wrong = decide(table.score, threshold) != table.is_speech
    beyond = np.abs(table.score - threshold)
    return [
        {
            "clip_id": str(table.clip_id[i]),
            "group": str(table.group[i]),
            "label": str(table.label[i]),
            "condition": str(table.condition[i]),
            "score": float(table.score[i]),
            "beyond": float(beyond[i]),
        }
        for i in np.argsort(-beyond, kind="stable")
        if is_wrong[i]
    ]


def _choose_heard(errors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The errors to listen to: in every round N_HEARD_CLEAN clean ones and one of each other condition; a clip once."""
    n_before: Counter[str] = Counter()
    queue = []
    for place, error in enumerate(errors):
        is_clean = error["condition"] == CLEAN
        turn = n_before[error["condition"]] // (N_HEARD_CLEAN if is_clean else 1)
        n_before[error["condition"]] += 1
        queue.append((turn, not is_clean, place))
    chosen: dict[str, dict[str, Any]] = {}
    for _, _, place in sorted(queue):
        chosen.setdefault(errors[place]["clip_id"], errors[place])
    return list(chosen.values())[:N_HEARD]


def _agree(clean: Mapping[str, ScoreTable], is_wrong: Bools, dev: Mapping[str, ScoreTable]) -> list[dict[str, Any]]:
    """Against every other method at its own dev threshold: what only we get right, what only they do."""
    found = []
    for method, table in sorted(clean.items()):
        if method == FINE_TUNED:
            continue
        theirs = decide(table.score, choose_threshold(dev[method]).value) != table.is_speech
        found.append(
            {
                "method": method,
                "both_right": int((~is_wrong & ~theirs).sum()),
                "only_ours_right": int((~is_wrong & theirs).sum()),
                "only_theirs_right": int((is_wrong & ~theirs).sum()),
                "both_wrong": int((is_wrong & theirs).sum()),
            }
        )
    return found
