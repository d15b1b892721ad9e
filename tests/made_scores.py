"""Made score tables: groups of clips whose scores differ by group; ranking measures of one set of scores."""

import numpy as np

from listenwell.evaluate.metrics import Costs, equal_error_of, least_cost_of, roc_points
from listenwell.evaluate.scores import ScoreTable


def equal_error_rate(score: np.ndarray, is_speech: np.ndarray) -> float:
    return float(equal_error_of(*roc_points(score, is_speech)))


def min_dcf(score: np.ndarray, is_speech: np.ndarray, costs: Costs) -> float:
    return float(least_cost_of(*roc_points(score, is_speech), costs))


def make_scores(
    n_groups: int = 40,
    n_each: int = 5,
    gap: float = 2.0,
    seed: int = 0,
    condition: str = "clean",
    snr_db: float = np.nan,
) -> ScoreTable:
    """n_groups groups of each class, n_each clips in each; speech scores `gap` above the rest, 0 halfway."""
    rng = np.random.default_rng(seed)
    n = 2 * n_groups * n_each
    is_speech = np.arange(n) < n // 2
    effects = np.repeat(rng.normal(0, 0.5, 2 * n_groups), n_each)
    return ScoreTable(
        clip_id=np.array([f"c{i}" for i in range(n)]),
        group=np.repeat([f"g{i}" for i in range(2 * n_groups)], n_each),
        label=np.where(is_speech, "SPEECH", "NONSPEECH"),
        score=rng.logistic(size=n) + effects + gap * (is_speech - 0.5),
        duration_ms=np.full(n, 1000.0),
        snr_db=np.full(n, snr_db),
        condition=np.full(n, condition),
    )


def stack(*tables: ScoreTable) -> ScoreTable:
    """The rows of all tables below each other."""
    names = ("clip_id", "group", "label", "score", "duration_ms", "snr_db", "condition", "category", "corpus")
    return ScoreTable(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))


def scored(values: dict[str, float], clips_each: int = 4) -> ScoreTable:
    """Clips of groups whose names begin with s (speech) or n, all of a group with the same score."""
    groups = np.repeat(list(values), clips_each)
    n = groups.size
    return ScoreTable(
        clip_id=np.array([f"{group}{i % clips_each}" for i, group in enumerate(groups)]),
        group=groups,
        label=np.where(np.char.startswith(groups, "s"), "SPEECH", "NONSPEECH"),
        score=np.repeat(list(values.values()), clips_each),
        duration_ms=np.full(n, 1000.0),
        snr_db=np.full(n, np.nan),
        condition=np.full(n, "clean"),
    )
