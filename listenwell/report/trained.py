"""What results.json says of a study's clips and of all that was trained on them: fits, ladder, search, folds.

Losses are nats per clip; intervals and differences are the records of `listenwell.evaluate`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from listenwell.evaluate.comparison import Outcome, PairedDifference, outcome_of
from listenwell.evaluate.intervals import Metric


class Node(BaseModel):
    """A part of the tree: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelRecord(Node):
    """The base model; description: what it was made of; hub_ids: the models of the hub that it is, or was made of."""

    name: str
    fingerprint: str
    is_starter_base: bool
    description: dict[str, Any]
    hub_ids: list[str] = []


class Allocation(Node):
    """Clips of one label in one split."""

    part: str
    label: str
    n_clips: int
    groups: list[str]
    n_groups: int
    categories: int


class BackgroundCount(Node):
    """Background recordings of one kind in one split."""

    part: str
    kind: str
    n: int


class Epoch(Node):
    """What training and dev measured after one epoch; losses in nats per clip."""

    epoch: int
    step: int
    train_loss: float
    dev_loss: float
    gap: float
    dev_balanced_accuracy_at_0: float
    dev_auc: float
    learning_rate: float


class Fit(Node):
    """One adapter; overfitting: a sentence, "" where there was none."""

    name: str
    identity: str
    seed: int
    best_epoch: int
    n_steps: int
    lora_modules: dict[str, int]
    history: list[Epoch]
    overfitting: str


class FailedFit(Node):
    """A fit that ended without an adapter."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstFirst(PairedDifference):
    """An arm minus the first arm, balanced accuracy, the seeds of both pooled; corrected over the whole ladder."""

    arm: str
    p_adjusted: float

    @property
    def outcome(self) -> Outcome:
        """Better or worse where the interval and the corrected p value both say so."""
        return outcome_of(self, self.p_adjusted)


class LadderRow(Node):
    """One arm of the ladder on one test set under one condition.

    values: balanced accuracy of each seed; seed_half_width: half of their t interval, None where it has no estimate;
    pooled: their mean, its interval over groups and seeds.
    """

    arm: str
    test_set: str
    condition: str
    seeds: list[int]
    values: list[float]
    seed_half_width: float | None
    pooled: Metric
    against: AgainstFirst | None


class Point(Node):
    """A point of the search that was trained whole."""

    changes: dict[str, Any]
    objective: float
    dev_loss: float
    dev_auc: float
    best_epoch: int
    n_steps: int
    identity: str


class Optimism(Node):
    """By how much choosing flatters the chosen; None where groups are too few to tell."""

    chosen: float | None
    left_out: float | None
    optimism: float | None


class Search(Node):
    """The search, its points ranked by dev.

    failed, dropped: points whose fit failed, or ended at a rung. n_steps: of the optimiser, and what they would be had
    none ended at a rung. sampled: what a sampled search learned.
    """

    ranked: list[Point]
    best: dict[str, Any]
    failed: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    n_steps: dict[Literal["trained", "trained_whole"], int]
    optimism: Optimism
    n_dev_clips: int
    n_dev_groups: int
    sampled: dict[str, Any] | None


class HeldOut(Node):
    """How the clips of a held-out speaker, and the other sounds held out beside it, were decided."""

    speaker: str
    n_speech: int
    n_nonspeech: int
    recall: float
    specificity: float
    balanced_accuracy: float


class HeldOutSpeaker(HeldOut):
    """One speaker of a fold."""

    fold: str


class HeldOutFold(HeldOut):
    """One fold, decided at its own threshold."""

    threshold: float


class FailedFold(Node):
    """A fold whose fit failed."""

    speaker: str
    reason: str


class LeaveOneOut(Node):
    """Leave-one-out of one arm, by group or by corpus; chosen: fold -> settings that a nested search found.

    gap: by corpus, what a foreign corpus costs: by group minus by corpus on the same clips, where both ran.
    """

    arm: str
    by: str
    gap: PairedDifference | None
    metrics: list[Metric]
    mean: Metric
    mean_of_folds: float
    sd_of_folds: float
    folds: list[HeldOutFold]
    speakers: list[HeldOutSpeaker]
    failed: list[FailedFold]
    mode: str
    chosen: dict[str, dict[str, Any]]
    n_leaks: int
