"""RadImageNet's ResNet-50 as MONAI publishes it: names and shapes of the state that was converted from Keras."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STACKS = {"layer1": (64, 3), "layer2": (128, 4), "layer3": (256, 6), "layer4": (512, 3)}
"""Width of the inner convolutions and number of blocks; the output of a block is four times as wide."""


def keras_convolutions() -> Iterator[tuple[str, str, tuple[int, int, int, int]]]:
    """Name of each convolution, of the batch normalisation behind it, and the shape of its weight."""
    yield "conv1", "bn1", (64, 3, 7, 7)
    channels = 64
    for stack, (width, blocks) in STACKS.items():
        for number in range(blocks):
            block = f"{stack}.{number}"
            yield f"{block}.conv1", f"{block}.bn1", (width, channels, 1, 1)
            yield f"{block}.conv2", f"{block}.bn2", (width, width, 3, 3)
            yield f"{block}.conv3", f"{block}.bn3", (4 * width, width, 1, 1)
            if number == 0:
                yield f"{block}.downsample.0", f"{block}.downsample.1", (4 * width, channels, 1, 1)
            channels = 4 * width


def keras_state(seed: int = 0) -> dict[str, Tensor]:
    """Random values; biases, means and variances that count."""
    draw = torch.Generator().manual_seed(seed)
    state = dict[str, Tensor]()
    for convolution, normalisation, shape in keras_convolutions():
        spread = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        state[f"{convolution}.weight"] = torch.randn(shape, generator=draw) * spread
        state[f"{convolution}.bias"] = torch.randn(shape[0], generator=draw) * 0.2
        state[f"{normalisation}.weight"] = torch.rand(shape[0], generator=draw) + 0.2
        state[f"{normalisation}.bias"] = torch.randn(shape[0], generator=draw) * 0.2
        state[f"{normalisation}.running_mean"] = torch.randn(shape[0], generator=draw) * 0.2
        state[f"{normalisation}.running_var"] = torch.rand(shape[0], generator=draw) + 0.5
        state[f"{normalisation}.num_batches_tracked"] = torch.tensor(0)
    return state


class KerasResNet50(nn.Module):
    """keras.applications.ResNet50 without its top, layer by layer, on a converted state."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.pad(self._layer("conv1", "bn1", F.pad(images, [3] * 4), 2).relu(), [1] * 4), 3, 2)
        for stack, (_, blocks) in STACKS.items():
            for number in range(blocks):
                maps = self._block(f"{stack}.{number}", maps, 2 if number == 0 and stack != "layer1" else 1)
        return maps

    def _block(self, name: str, maps: Tensor, stride: int) -> Tensor:
        shortcut = maps
        if f"{name}.downsample.0.weight" in self.state:
            shortcut = self._layer(f"{name}.downsample.0", f"{name}.downsample.1", maps, stride)
        inner = self._layer(f"{name}.conv1", f"{name}.bn1", maps, stride).relu()
        inner = self._layer(f"{name}.conv2", f"{name}.bn2", F.pad(inner, [1] * 4)).relu()
        return (self._layer(f"{name}.conv3", f"{name}.bn3", inner) + shortcut).relu()

    def _layer(self, convolution: str, normalisation: str, maps: Tensor, stride: int = 1) -> Tensor:
        s = self.state
        maps = F.conv2d(maps, s[f"{convolution}.weight"], s[f"{convolution}.bias"], stride)
        moments = s[f"{normalisation}.running_mean"], s[f"{normalisation}.running_var"]
        return F.batch_norm(maps, *moments, s[f"{normalisation}.weight"], s[f"{normalisation}.bias"], eps=1.001e-5)
