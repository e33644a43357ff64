"""The 3D VQ-GAN's network, layer for layer Medical Diffusion's, so that its published weights fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from x2c.models.chunks import recomputed
from x2c.models.vqgan.codebook import Codebook

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """Settings that fix the shapes of the weights and the order of operations."""

    channels: int
    """Channels of the latents: the dimension of a code (the published code's embedding_dim)."""
    codes: int
    hidden: int
    """Channels of the stem; every level doubles them (n_hiddens)."""
    downsample: Triple
    """Reduction of D, H, W, powers of two; the largest gives the number of levels."""

    @property
    def groups(self) -> int:
        """Number of groups in group norms: 32 as published, or as many of them as divide the first level's channels."""
        return math.gcd(32, 2 * self.hidden)

    @property
    def strides(self) -> list[Triple]:
        """Strides of each level: an axis is halved in the first levels, until its reduction is reached."""
        levels = max(self.downsample).bit_length() - 1
        d, h, w = self.downsample
        return [(1 + (d >> n > 1), 1 + (h >> n > 1), 1 + (w >> n > 1)) for n in range(levels)]

    @property
    def deepest(self) -> int:
        """Channels of the last level."""
        return self.hidden * max(self.downsample)


class PaddedConv3d(nn.Conv3d):
    """A convolution whose output is the input's size over the stride; the border is repeated, not zero."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: Triple = (1, 1, 1)) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)
        self.border = _border(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.border, mode="replicate"))


class PaddedConvTranspose3d(nn.ConvTranspose3d):
    """A transposed convolution whose output is the input's size times the stride, with a repeated border."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: Triple) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel - 1)
        self.border = _border(kernel, stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(F.pad(x, self.border, mode="replicate"), output_size)


def _border(kernel: int, stride: Triple) -> list[int]:
    """Return the voxels to repeat before and after W, H, D (F.pad's order); an odd one goes before."""
    missing = [kernel - step for step in reversed(stride)]
    return [side for total in missing for side in (total - total // 2, total // 2)]


class ResidualBlock(nn.Module):
    """Adds to the input what norm, SiLU and convolution, applied twice, make of it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels, groups)
        self.conv1 = PaddedConv3d(channels, channels, 3)
        self.norm2 = _norm(channels, groups)
        self.conv2 = PaddedConv3d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        output: Tensor = x + self.conv2(F.silu(self.norm2(h)))
        return output


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Encoder(nn.Module):
    """Encodes volumes [B, 1, D, H, W] to features of the deepest level."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.stem = PaddedConv3d(1, a.hidden, 3)
        self.levels = nn.Sequential()
        for number, stride in enumerate(a.strides):
            width = a.hidden * 2**number
            self.levels.append(
                nn.Sequential(PaddedConv3d(width, 2 * width, 4, stride), ResidualBlock(2 * width, a.groups))
            )
        self.norm = _norm(a.deepest, a.groups)

    def forward(self, volumes: Tensor) -> Tensor:
        return F.silu(self.norm(self.levels(self.stem(volumes))))


class Decoder(nn.Module):
    """Decodes features of the deepest level to volumes [B, 1, D, H, W].

    As published, it does not mirror the encoder: the first level keeps the width, so the last one works on the full
    grid with twice the stem's channels, and an axis that is reduced less is enlarged in the first levels too.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.norm = _norm(a.deepest, a.groups)
        self.levels = nn.Sequential()
        before = width = a.deepest
        for stride in a.strides:
            blocks = (ResidualBlock(width, a.groups) for _ in range(2))
            self.levels.append(nn.Sequential(PaddedConvTranspose3d(before, width, 4, stride), *blocks))
            before, width = width, width // 2
        self.head = PaddedConv3d(before, 1, 3)

    def forward(self, features: Tensor, recompute: bool = False) -> Tensor:
        maps = F.silu(self.norm(features))
        for layer in (layer for level in self.levels for layer in level.children()):
            maps = recomputed(layer, maps) if recompute else layer(maps)
        volumes: Tensor = self.head(maps)
        return volumes


class VQGAN(nn.Module):
    """Encoder, codebook and decoder. The discriminators belong to the training and are not kept."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture)
        self.to_latents = nn.Conv3d(architecture.deepest, architecture.channels, 1)
        self.codebook = Codebook(architecture.codes, architecture.channels)
        self.from_latents = nn.Conv3d(architecture.channels, architecture.deepest, 1)
        self.decoder = Decoder(architecture)

    def encode(self, volumes: Tensor) -> Tensor:
        """Encode volumes [B, D, H, W] in [-1, 1] to latents [B, C, D', h, w], not quantised."""
        latents: Tensor = self.to_latents(self.encoder(volumes[:, None]))
        return latents

    def decode(self, latents: Tensor, recompute: bool = False) -> Tensor:
        """Decode latents [B, C, D', h, w] to volumes [B, D, H, W], unclipped. Quantises; gradients pass through.

        With `recompute` the decoder's layers keep nothing but their inputs for the gradients.
        """
        return self.decode_codes(self.codebook.quantise(latents)[0], recompute)

    def decode_codes(self, codes: Tensor, recompute: bool = False) -> Tensor:
        """Decode codes [B, C, D', h, w] of the codebook to volumes [B, D, H, W], not clipped."""
        volumes: Tensor = self.decoder(self.from_latents(codes), recompute)[:, 0]
        return volumes
