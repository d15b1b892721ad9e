"""The base of every config section: frozen, typed, unknown keys refused.

A section lives beside the code it configures; the docstring under each field is its help text in
`listenwell config` and in the JSON Schema.
"""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One frozen group of settings. Strings from YAML such as "1e-4" become the declared number type."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
