"""The base of every config section: frozen, typed, unknown keys refused.

A section lives beside the code it configures; the docstring under each field is its help in `listenwell config`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """One frozen group of settings. Strings from YAML such as "1e-4" become the declared number type."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def in_order(lower: str, upper: str) -> Any:
    """Return a validator, to stand in a section's body, that refuses a field `lower` above the field `upper`."""

    def check(section: Section) -> Section:
        low, high = getattr(section, lower), getattr(section, upper)
        if low > high:
            raise ValueError(f"{lower} ({low}) is above {upper} ({high}); swap them")
        return section

    return model_validator(mode="after")(check)
