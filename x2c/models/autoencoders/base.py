"""What every autoencoder is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from x2c.models.frozen import Device, StandIn, Volumes


class Autoencoder(Protocol):
    """A frozen network between volumes [B, D, H, W] in [-1, 1] and latents [B, C, D', h, w]."""

    channels: int
    """C, known before anything is loaded."""
    reduction: tuple[int, int, int]
    """Of D, H and W."""
    stand_in: StandIn | None
    has_codebook: bool
    trained_here: bool
    """Whether it learns from the data set itself, at the sample size it is used at."""
    latent_range: tuple[float, float] | None
    """Smallest and largest entry of a codebook, known once loaded; None where there is none."""

    def fingerprint(self, data_fingerprint: str) -> dict[str, Any]:
        """What the latents depend on besides the volumes."""

    def load(self, cache: Path, data_fingerprint: str, training_volumes: Volumes, device: Device = "cpu") -> None:
        """Make it ready, training it first where it learns from the data. Raises UserError where weights cannot be had."""

    def open(self, folder: Path, device: Device = "cpu") -> None:
        """Load the weights of a folder that a run keeps."""

    def encode(self, volumes: Tensor) -> Tensor:
        """volumes [B, D, H, W] in [-1, 1] -> latents [B, C, D', h, w]."""

    def decode(self, latents: Tensor) -> Tensor:
        """latents [B, C, D', h, w] -> volumes [B, D, H, W], clipped to [-1, 1]."""

    def decode_at(self, latents: Tensor, depths: Tensor) -> Tensor:
        """latents [B, C, D', h, w], depths [B, k] -> those slices [B, k, H, W], with gradients to the latents."""
