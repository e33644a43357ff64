"""A block of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from x2c.core.given import Unquoted


class Section(BaseModel):
    """A block of fields; unknown keys are errors and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, values: Any) -> Any:
        """Values of the command line as the fields' types have them."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: value.of(fields[key].annotation) if isinstance(value, Unquoted) and key in fields else value
            for key, value in values.items()
        }
