"""Types and functions that the frozen parts (autoencoder, encoder, feature networks) share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Device = torch.device | str


class Samples(Protocol):
    """Samples [N, ...], which may be read from disk when they are indexed. A tensor is also one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all samples together."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: Any, /) -> Tensor:
        """Return some samples, or parts of them."""


Volumes = Callable[[], Samples]
"""A data set's training volumes [N, D, H, W] in [-1, 1], opened when they are called for."""


@dataclass(frozen=True)
class StandIn:
    """A small network that takes the place of pretrained weights; named in provenance and in every table it affects."""

    part: str
    name: str
    instead_of: str


def frozen(module: Module) -> Module:
    """Return the module in eval mode, its parameters without gradients or optimizer. Inputs still get gradients."""
    return module.eval().requires_grad_(False)


def parameter_count(module: nn.Module) -> int:
    """Count the learned parameters, also of a module on the meta device."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator as if seeded with `seed` inside the block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
