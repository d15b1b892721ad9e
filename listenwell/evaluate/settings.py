"""What a study measures, and against whom."""

from typing import Literal

from pydantic import field_validator

from listenwell.augment.conditions import CLEAN, duration_ms_of, snr_of
from listenwell.errors import ConfigError
from listenwell.section import Section


class EvaluationConfig(Section):
    """Conditions and opponents of the test."""

    conditions: tuple[str, ...] = (
        "clean", "snr_-5", "snr_0", "snr_5", "snr_10", "snr_20", "100ms", "200ms", "500ms", "1000ms",
    )  # fmt: skip
    """Versions of every dev and test clip: clean, snr_<dB> (a background mixed in), <duration>ms (its middle)."""
    baselines: tuple[Literal["silero", "webrtc"], ...] = ("silero", "webrtc")
    """Classic voice activity detectors judged on the same clips; they need the extra 'baselines'."""

    @field_validator("conditions")
    @classmethod
    def _known(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        if CLEAN not in conditions or len(set(conditions)) < len(conditions):
            raise ValueError("must name 'clean' and no condition twice")
        for condition in conditions:
            if condition != CLEAN and snr_of(condition) is None:
                try:
                    duration_ms_of(condition)
                except ConfigError as error:
                    raise ValueError(str(error)) from error
        return conditions
