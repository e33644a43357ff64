"""The 3D patch discriminator on latents (MONAI's)."""

from __future__ import annotations

from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Scores of latent patches, [B, C, D, h, w] -> [B, 1, d', h', w'].

    Group norm, which keeps no running statistics: a pass on generated latents must not move the discriminator.
    """

    def __init__(self, in_channels: int, channels: int, layers: int, kernel_size: int) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=3,
            channels=channels,
            in_channels=in_channels,
            num_layers_d=layers,
            kernel_size=kernel_size,
            # MONAI's default of 1 lets a kernel of 4 outgrow the patch map after four layers.
            padding=kernel_size // 2,
            norm=("GROUP", {"num_groups": 8}),
        )

    def forward(self, latents: Tensor) -> Tensor:
        scores: Tensor = self.network(latents)[-1]
        return scores
