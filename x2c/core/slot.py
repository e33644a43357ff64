"""A slot of the configuration, and what is asked of the options of its choices without knowing which choice it is."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_serializer

from x2c.core.section import Section

Options = TypeVar("Options", bound=Section, covariant=True)


class Slot(BaseModel, Generic[Options]):
    """A registry entry by name, with that entry's own options; `Options` is what all entries of the family have."""

    model_config = ConfigDict(frozen=True)

    name: str
    options: SerializeAsAny[Options]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.options.model_dump(mode="json")}


@runtime_checkable
class HasSource(Protocol):
    """Options of an entry that loads weights."""

    @property
    def source(self) -> str:
        """Source of the weights: a hub id, a file or a folder. Empty: the weights are looked up in X2C_WEIGHTS."""


@runtime_checkable
class HasNetwork(Protocol):
    """Options of a loss term that compares by a perceptual network."""

    @property
    def network(self) -> str:
        """A choice of `perceptual`."""


def source_of(options: Section | None) -> str:
    """Return the source of an entry's weights from its options; empty if it loads none."""
    return options.source if isinstance(options, HasSource) else ""


def network_of(options: Section | None) -> str | None:
    """The perceptual network of a loss term; None for one that has none."""
    return options.network if isinstance(options, HasNetwork) else None
