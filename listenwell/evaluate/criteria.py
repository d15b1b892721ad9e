"""What a threshold is chosen for, written as text: NAME or NAME=NUMBER[,NUMBER,NUMBER].

| text | the threshold with |
|---|---|
| balanced_accuracy | the largest mean of recall and specificity |
| accuracy | the most right decisions on this mix of classes |
| target_recall=0.95 | the largest specificity among those that find 95 % of the speech |
| target_false_alarm=0.01 | the largest recall among those that call at most 1 % of the other clips speech |
| eer | misses and false alarms as equal as they get |
| cost=1,10,0.2 | the least expected cost: a miss costs 1, a false alarm 10, 20 % of the clips to come are speech |

Rates are arrays of any shape, so curves of many resamples are judged at once.
"""

from dataclasses import dataclass

import numpy as np

from listenwell.errors import ConfigError
from listenwell.evaluate.metrics import Costs, Floats

N_NUMBERS = {"balanced_accuracy": 0, "accuracy": 0, "eer": 0, "target_recall": 1, "target_false_alarm": 1, "cost": 3}
FORMS = "balanced_accuracy, accuracy, eer, target_recall=0.95, target_false_alarm=0.01 or cost=1,10,0.2"
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Criterion:
    """A name of N_NUMBERS and its numbers; raises ConfigError when they do not fit."""

    name: str
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in N_NUMBERS or len(self.numbers) != N_NUMBERS[self.name]:
            raise ConfigError(f"criterion: '{self}' is not one; expected {FORMS}.")
        shares = self.numbers[-1:]
        if not all(0.0 < share < 1.0 for share in shares) or not all(0.0 < n < np.inf for n in self.numbers):
            raise ConfigError(
                f"criterion: '{self}' needs costs above 0 and a rate or share of speech between 0 and 1, without them; "
                "95 % is written 0.95."
            )

    def __str__(self) -> str:
        return self.name + ("=" if self.numbers else "") + ",".join(f"{number:g}" for number in self.numbers)

    def gain(self, false_alarms: Floats, hits: Floats, speech_share: float) -> Floats:
        """Return what the chosen threshold has the most of; speech_share: of the clips at hand."""
        if self.name == "eer":
            return -np.abs(false_alarms - (1.0 - hits))
        if self.name == "target_recall":
            return np.where(hits >= self.numbers[0] - ROUNDING, 1.0 - false_alarms, -1.0)
        if self.name == "target_false_alarm":
            return np.where(false_alarms <= self.numbers[0] + ROUNDING, hits, -1.0)
        return self.reached(false_alarms, hits, speech_share) * (-1.0 if self.name == "cost" else 1.0)

    def reached(self, false_alarms: Floats, hits: Floats, speech_share: float) -> Floats:
        """Return the measure that is reported: MEASURES says which."""
        if self.name == "accuracy":
            return speech_share * hits + (1.0 - speech_share) * (1.0 - false_alarms)
        if self.name == "target_recall":
            return 1.0 - false_alarms
        if self.name == "target_false_alarm":
            return hits
        if self.name == "eer":
            return (1.0 - hits + false_alarms) / 2
        if self.name == "cost":
            return Costs(*self.numbers).expected(false_alarms, hits)
        return (hits + 1.0 - false_alarms) / 2


BALANCED_ACCURACY = Criterion("balanced_accuracy")
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "eer": "mean of misses and false alarms",
    "target_recall": "specificity",
    "target_false_alarm": "recall",
    "cost": "expected cost per clip",
}
"""What `reached` is, in words."""


def parse_criterion(text: str) -> Criterion:
    """Return the criterion `text` names. Raises ConfigError."""
    name, _, numbers = text.partition("=")
    try:
        return Criterion(name.strip(), tuple(float(number) for number in numbers.split(",")) if numbers else ())
    except ValueError as error:
        raise ConfigError(f"criterion: '{text}' has something that is no number; expected {FORMS}.") from error
