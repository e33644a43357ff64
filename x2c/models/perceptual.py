"""Perceptual distances between slices: LPIPS on AlexNet, and the paper's RadImageNet ResNet-50."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from x2c.core.config import Section
from x2c.core.errors import UserError
from x2c.core.registry import PERCEPTUAL
from x2c.core.weights import WEIGHTS, local_file
from x2c.models.frozen import StandIn, frozen, seeded

SMALLEST_IMAGE = 32


class Perceptual(nn.Module):
    """Distance [N] between two batches of grey slices [N, H, W] in [-1, 1], with gradients to both."""

    stand_in: StandIn | None = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = frozen(network)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        images = [self._prepare(slices) for slices in (first, second)]
        return self.network(*images).flatten()

    def _prepare(self, slices: Tensor) -> Tensor:
        images = slices[:, None].expand(-1, 3, -1, -1)
        if min(images.shape[-2:]) >= SMALLEST_IMAGE:
            return images
        # AlexNet's five levels leave nothing of a smaller image.
        return nn.functional.interpolate(images, size=(SMALLEST_IMAGE, SMALLEST_IMAGE), mode="bilinear")


@PERCEPTUAL.register("lpips_alex")
class AlexLPIPS(Perceptual):
    """LPIPS with AlexNet (Zhang et al. 2018), v0.1."""

    class Options(Section):
        """Where the ImageNet weights of the trunk are."""

        source: str = ""
        """Local alexnet-owt-*.pth; the linear heads come with the package lpips. Empty: torchvision's download."""

    def __init__(self, options: Options) -> None:
        super().__init__(_alex_lpips(options.source))


@PERCEPTUAL.register("lpips_standin")
class StandInLPIPS(Perceptual):
    """LPIPS's architecture and linear heads on a seeded random AlexNet."""

    stand_in = StandIn("perceptual", "lpips_standin", "pretrained LPIPS network")

    class Options(Section):
        """None."""

    def __init__(self, options: Options) -> None:
        with seeded(0):
            super().__init__(_lpips(random=True))


@PERCEPTUAL.register("radimagenet_resnet50")
class RadImageNet(Perceptual):
    """Squared distance of RadImageNet ResNet-50's unit-normalised last feature maps, the paper's LPIPS loss."""

    class Options(Section):
        """Where the weights are."""

        source: str = ""
        """Local state dict in torchvision's resnet50 layout (.pt or .pth)."""

    def __init__(self, options: Options) -> None:
        super().__init__(_ResNetDistance(options.source))


def _lpips(*, random: bool) -> Any:
    from lpips import LPIPS

    with warnings.catch_warnings():
        # lpips still passes torchvision's retired argument `pretrained`.
        warnings.simplefilter("ignore", UserWarning)
        return LPIPS(net="alex", pnet_rand=random, verbose=False)


def _alex_lpips(source: str) -> Any:
    if not source:
        try:
            return _lpips(random=False)
        except OSError as error:
            weights = WEIGHTS["alexnet"]
            raise UserError(
                f"{weights.option}: could not download {weights.source}; set --{weights.option}=FILE or use lpips_standin"
            ) from error
    network = _lpips(random=True)
    trunk = _state("alexnet", source)
    with _as_user_error("alexnet", source):
        # lpips cuts the trunk into five named slices that keep torchvision's layer numbers.
        for piece in (getattr(network.net, f"slice{number}") for number in range(1, 6)):
            piece.load_state_dict({name: trunk[f"features.{name}"] for name in piece.state_dict()}, strict=True)
    return network


def _state(name: str, source: str) -> dict[str, Tensor]:
    path = local_file(name, source)
    with _as_user_error(name, source):
        return dict(torch.load(path, weights_only=True))


@contextmanager
def _as_user_error(name: str, source: str) -> Iterator[None]:
    """A file that is not what its option asks for is the user's to mend, whatever torch makes of it."""
    weights = WEIGHTS[name]
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, pickle.UnpicklingError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(
            f"{weights.option}: expected the state dict of {weights.source}; {source} is another file ({cause})"
        ) from error


class _ResNetDistance(nn.Module):
    def __init__(self, source: str) -> None:
        super().__init__()
        from torchvision.models import resnet50

        network = resnet50(weights=None)
        network.fc = nn.Identity()
        state = _state("radimagenet_resnet50", source)
        with _as_user_error("radimagenet_resnet50", source):
            network.load_state_dict(
                {name: value for name, value in state.items() if not name.startswith("fc.")}, strict=True
            )
        self.trunk = nn.Sequential(*list(network.children())[:-2])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (nn.functional.normalize(self.trunk(images), dim=1) for images in (first, second))
        return (a - b).square().sum(dim=1).mean(dim=(-2, -1))
