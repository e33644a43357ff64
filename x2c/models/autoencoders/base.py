"""Protocol of autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from x2c.models.frozen import Device, StandIn, Volumes


class Autoencoder(Protocol):
    """A frozen network between volumes [B, D, H, W] in [-1, 1] and latents [B, C, D', h, w]."""

    channels: int
    """Number of channels C, known before anything is loaded."""
    reduction: tuple[int, int, int]
    """Reduction factors of D, H and W."""
    stand_in: StandIn | None
    has_codebook: bool
    trained_here: bool
    """Whether it learns from the data set itself, at the sample size it is used at."""
    latent_range: tuple[float, float] | None
    """Smallest and largest entry of a codebook, known once loaded; None if there is no codebook."""

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """Return the settings that the latents depend on besides the volumes."""

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Make it ready, training it first if it learns from the data. Raises UserError if weights cannot be found."""

    def open(self, folder: Path, device: Device = "cpu") -> None:
        """Load the weights from a folder that a run keeps."""

    def encode(self, volumes: Tensor) -> Tensor:
        """Encode volumes [B, D, H, W] in [-1, 1] to latents [B, C, D', h, w]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, D', h, w] to volumes [B, D, H, W], clipped to [-1, 1]."""

    def decode_at(self, latents: Tensor, depths: Tensor) -> Tensor:
        """Decode depths [B, k] of latents [B, C, D', h, w] to slices [B, k, H, W], with gradients to the latents."""
