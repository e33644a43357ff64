"""A block of the configuration."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Section(BaseModel):
    """A block of fields; unknown keys are errors and values never change.

    The text below a field is its documentation, which `train.py --help-config` shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after the first runs. Their default is what was done before, and at their default they are not
    written: an older run keeps its config, its id and its stages."""

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, written = type(self).model_fields, write(self)
        return {
            name: value
            for name, value in written.items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }
