"""RadImageNet's ResNet-50 as it is published: converted from Keras (MONAI, the paper's), or in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from x2c.models.pretrained import read_state

CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""RadImageNet's numbers of ResNet-50's children (`backbone.4.0.conv1.weight`), and torchvision's names of them."""
KERAS_EPSILON = 1.001e-5
"""The ε of batch normalisation in Keras's ResNet-50."""
KERAS_MEAN = (0.406, 0.456, 0.485)
"""Mean of blue, green and red in [0, 1], subtracted from the Keras network's inputs (monai.losses.perceptual)."""


def radimagenet_state(path: Path) -> dict[str, Tensor]:
    """Return RadImageNet's ResNet-50 under torchvision's names, without the last layer."""
    state = {_torchvision_name(name): value for name, value in read_state(path).items()}
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def is_from_keras(state: dict[str, Tensor]) -> bool:
    """Return whether a state is the converted Keras network's: only its convolutions have biases."""
    return "conv1.bias" in state


def as_in_keras(network: nn.Module) -> None:
    """Change torchvision's ResNet-50 in place into Keras's: biases, another ε, strides in the first convolution.

    Keras follows He et al. (2015): a block reduces the image in its first 1 × 1 convolution, torchvision's in its 3 × 3.
    """
    from torchvision.models.resnet import Bottleneck

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = KERAS_EPSILON
        elif isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride


class KerasInput(nn.Module):
    """Convert RGB images [N, 3, H, W] in [-1, 1] to the Keras network's input: BGR in [0, 1], less the mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(KERAS_MEAN)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flip(1) + 1) / 2 - self.mean


def _torchvision_name(name: str) -> str:
    prefix, _, rest = name.partition(".")
    number, _, layer = rest.partition(".")
    return f"{CHILDREN[number]}.{layer}" if prefix == "backbone" else name
