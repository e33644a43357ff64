"""Base class of X-ray encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from x2c.core.config import Section
from x2c.core.errors import UserError
from x2c.core.slot import source_of
from x2c.models.frozen import StandIn, frozen, seeded


class Encoder(ABC):
    """A frozen network that makes one embedding of a radiograph.

    A new one is a registered subclass with `Options`, `dimension`, `fingerprint`, `build` and `embed`, in its own file.
    Where it loads weights, add them to `core/published.py`: runs are then told apart by what a file holds, not by its path.
    """

    Options: type[Section]
    options: Section
    dimension: int
    """Length K of an embedding, known before anything is loaded."""
    projection: int | None = None
    """Width of a learned linear map that the denoiser puts between embedding and conditioning; None: no such map."""
    stand_in: StandIn | None = None
    network: nn.Module

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the embeddings depend on besides the radiographs."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network with its weights, on the CPU. Raises UserError if they cannot be found."""

    @abstractmethod
    def embed(self, radiographs: Tensor) -> Tensor:
        """Embed radiographs [B, h, w] in [0, 1] as [B, K]; the network's own preprocessing is included."""

    def load(self, device: torch.device | str = "cpu") -> None:
        """Make it ready. Raises UserError if weights cannot be found or give another width than `dimension`."""
        self._use(self.build, device)

    def save(self, file: Path) -> None:
        """Write the loaded network's tensors, for `open`: another version of a library may draw others from the same seed."""
        save_file({name: value.cpu().clone().contiguous() for name, value in self.network.state_dict().items()}, file)

    def open(self, file: Path, device: torch.device | str = "cpu") -> None:
        """Make it ready with the tensors of a file that `save` wrote. Raises UserError for those of another network."""

        def build() -> nn.Module:
            network = self.build()
            try:
                network.load_state_dict(load_file(file), strict=True)
            except (SafetensorError, RuntimeError) as error:
                cause = " ".join(str(error).split())[:120]
                raise UserError(f"{file}: not the weights of this encoder ({cause}); copy the run again") from error
            return network

        self._use(build, device)

    def _use(self, build: Callable[[], nn.Module], device: torch.device | str) -> None:
        with seeded(0):
            self.network = frozen(build()).to(device)
        given = self.encode(torch.zeros(1, 32, 32, device=device)).shape[-1]
        if given != self.dimension:
            raise UserError(
                f"encoder.dimension: expected {given}, the width of {source_of(self.options) or 'the network'}; "
                f"got {self.dimension}; set --encoder.dimension={given}"
            )

    @torch.no_grad()
    def encode(self, radiographs: Tensor) -> Tensor:
        """Embed radiographs [B, h, w] in [0, 1] as [B, K]."""
        return self.embed(radiographs)


def standardised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Repeat grey images [B, 1, h, w] as three channels [B, 3, h, w], each with its mean and standard deviation."""
    m, s = images.new_tensor(mean)[:, None, None], images.new_tensor(std)[:, None, None]
    return (images.expand(-1, 3, -1, -1) - m) / s
