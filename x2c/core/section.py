"""The base class of a block of the configuration."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from x2c.core.given import Unquoted


class Section(BaseModel):
    """A block of fields; unknown keys are errors and values never change.

    The text below a field is its documentation, which `train.py --help-config` shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields added after the first runs. Their default is the earlier behaviour, and at their default they are not
    written: an older run keeps its config, its id and its stages."""

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, written = type(self).model_fields, write(self)
        return {
            name: value
            for name, value in written.items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, values: Any) -> Any:
        """Convert values of the command line to the fields' types."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: value.of(fields[key].annotation) if isinstance(value, Unquoted) and key in fields else value
            for key, value in values.items()
        }
