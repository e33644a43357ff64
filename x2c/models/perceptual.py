"""Perceptual distances between slices: LPIPS on AlexNet, and the paper's RadImageNet ResNet-50."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from x2c.core.config import Section
from x2c.core.registry import PERCEPTUAL
from x2c.core.weights import local_copy
from x2c.models.frozen import StandIn, frozen, seeded
from x2c.models.pretrained import expecting, read_state
from x2c.models.radimagenet import KerasInput, as_in_keras, is_from_keras, radimagenet_state

SMALLEST_IMAGE = 32


class Perceptual(nn.Module):
    """Distance [N] between two batches of grey slices [N, H, W] in [-1, 1], with gradients to both."""

    stand_in: StandIn | None = None
    network: Any
    """lpips.LPIPS, which has no type annotations, unless an entry has another network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = frozen(network)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        images = [self._prepare(slices) for slices in (first, second)]
        distances: Tensor = self.network(*images).flatten()
        return distances

    def features(self, slices: Tensor) -> Tensor:
        """Return the network's last features [N, F], averaged over places, of grey slices [N, H, W] in [-1, 1]."""
        return self.last_maps(self._prepare(slices)).mean(dim=(-2, -1))

    def last_maps(self, images: Tensor) -> Tensor:
        """Return the network's last feature maps [N, F, h, w] of images [N, 3, H, W]; by default LPIPS's trunk."""
        maps: Tensor = self.network.net(self.network.scaling_layer(images))[-1]
        return maps

    def _prepare(self, slices: Tensor) -> Tensor:
        images = slices[:, None].expand(-1, 3, -1, -1)
        if min(images.shape[-2:]) >= SMALLEST_IMAGE:
            return images
        # AlexNet's five levels would reduce a smaller image to nothing.
        return nn.functional.interpolate(images, size=(SMALLEST_IMAGE, SMALLEST_IMAGE), mode="bilinear")


@PERCEPTUAL.register("lpips_alex")
class AlexLPIPS(Perceptual):
    """LPIPS with AlexNet (Zhang et al. 2018), v0.1."""

    class Options(Section):
        """Source of the trunk's ImageNet weights."""

        source: str = ""
        """File alexnet-owt-*.pth; the linear heads come with the package lpips. Empty: searched in X2C_WEIGHTS, then
        downloaded."""

    def __init__(self, options: Options) -> None:
        super().__init__(_alex_lpips(options.source))


@PERCEPTUAL.register("lpips_standin")
class StandInLPIPS(Perceptual):
    """LPIPS's architecture and linear heads on a seeded random AlexNet."""

    stand_in: StandIn | None = StandIn("perceptual", "lpips_standin", "pretrained LPIPS network")

    class Options(Section):
        """No options."""

    def __init__(self, options: Options) -> None:
        with seeded(0):
            super().__init__(_random_lpips())


@PERCEPTUAL.register("radimagenet_resnet50")
class RadImageNet(Perceptual):
    """Squared distance of RadImageNet ResNet-50's unit-normalised last feature maps, the paper's LPIPS loss."""

    network: ResNetDistance

    class Options(Section):
        """Source of the weights."""

        source: str = ""
        """File with a state dict: MONAI's RadImageNet-ResNet50_notop.pth (the paper's), converted from Keras, or
        RadImageNet's own ResNet50.pt in torchvision's layout; the names in it tell which, and each sees slices as it
        was trained to."""

    def __init__(self, options: Options) -> None:
        super().__init__(ResNetDistance(_radimagenet_trunk(options.source)))

    def last_maps(self, images: Tensor) -> Tensor:
        """Return ResNet-50's last feature maps, [N, 2048, h, w]."""
        maps: Tensor = self.network.trunk(images)
        return maps


def _random_lpips() -> Any:
    from lpips import LPIPS

    with warnings.catch_warnings():
        # lpips still passes torchvision's retired argument `pretrained`.
        warnings.simplefilter("ignore", UserWarning)
        return LPIPS(net="alex", pnet_rand=True, verbose=False)


def _alex_lpips(source: str) -> Any:
    path = local_copy("alexnet", source)
    with seeded(0):
        network = _random_lpips()
    with expecting("alexnet", path):
        trunk = read_state(path)
        # lpips cuts the trunk into five named slices that keep torchvision's layer numbers.
        for piece in (getattr(network.net, f"slice{number}") for number in range(1, 6)):
            piece.load_state_dict({name: trunk[f"features.{name}"] for name in piece.state_dict()}, strict=True)
    return network


def _radimagenet_trunk(source: str) -> nn.Module:
    """Return ResNet-50's last feature maps [N, 2048, h, w] of images [N, 3, H, W] in [-1, 1]."""
    from torchvision.models import resnet50

    path = local_copy("radimagenet_resnet50", source)
    with seeded(0):
        network = resnet50(weights=None)
    network.fc = nn.Identity()
    with expecting("radimagenet_resnet50", path):
        state = radimagenet_state(path)
        if is_from_keras(state):
            as_in_keras(network)
        network.load_state_dict(state, strict=True)
    # In torchvision's layout RadImageNet was trained on [-1, 1].
    preparation = [KerasInput()] if is_from_keras(state) else []
    return nn.Sequential(*preparation, *list(network.children())[:-2])


class ResNetDistance(nn.Module):
    """Return the squared distance [N] of a trunk's feature maps of images, unit-normalised, averaged over places."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (nn.functional.normalize(self.trunk(images), dim=1) for images in (first, second))
        return (a - b).square().sum(dim=1).mean(dim=(-2, -1))
