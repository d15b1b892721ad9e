"""What a study measures, and against whom."""

from typing import Literal

from pydantic import Field, field_validator

from listenwell.augment.conditions import CLEAN, FULL, FULL_CONDITIONS, parse_condition
from listenwell.errors import ConfigError
from listenwell.section import Section


class EvaluationConfig(Section):
    """Conditions and opponents of the test."""

    conditions: tuple[str, ...] = (
        "clean", "snr_-5", "snr_0", "snr_5", "snr_10", "snr_20", "100ms", "200ms", "500ms", "1000ms",
    )  # fmt: skip
    """Versions of every dev and test clip: clean, 100ms, snr_-5, t60_0.3, lowpass_3400 and the like, or full."""
    baselines: tuple[Literal["silero", "webrtc"], ...] = ("silero", "webrtc")
    """Classic voice activity detectors judged on the same clips; they need the extra 'baselines'."""

    least_clean: float = Field(0.75, gt=0, lt=1)
    """Success criterion: least balanced accuracy on the clean clips of every test set."""
    least_noisy: float = Field(0.8, gt=0, lt=1)
    """Success criterion: least balanced accuracy over all snr_ conditions of every test set."""
    least_loso: float = Field(0.75, gt=0, lt=1)
    """Success criterion: least balanced accuracy of leave-one-speaker-out."""

    @field_validator("conditions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(each for name in names for each in (FULL_CONDITIONS if name == FULL else (name,)))
        try:
            conditions = [parse_condition(name) for name in names]
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if CLEAN not in names or len(set(conditions)) < len(conditions):
            raise ValueError("must name 'clean' and no condition twice")
        return names
