"""Volume features for the Fréchet, kernel and paired distances: I3D (FVD's), and a small network that stands in."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from x2c.core.config import Section
from x2c.core.registry import FEATURES
from x2c.core.weights import local_copy
from x2c.models.frozen import StandIn, frozen, seeded
from x2c.models.i3d import FEWEST_FRAMES, SIZE, I3DNetwork
from x2c.models.pretrained import expecting, read_state


class FeatureNetwork(Protocol):
    """Features of whole volumes."""

    name: str
    """Name of the network in tables."""
    stand_in: StandIn | None

    def __call__(self, volumes: Tensor) -> Tensor:
        """Return features [B, F] of volumes [B, D, H, W] in [0, 1]."""
        ...


@FEATURES.register("i3d")
class I3D:
    """I3D's logits as StyleGAN-V's FVD takes them: 400 numbers a volume, slices as frames."""

    name = "I3D"
    stand_in: StandIn | None = None

    class Options(Section):
        """Source of the weights."""

        source: str = ""
        """File i3d_torchscript.pt: an archive of code, whose digest must be known (x2c.core.weights)."""

    def __init__(self, options: Options) -> None:
        self.network: Any = torch.jit.load(local_copy("i3d", options.source), map_location="cpu").eval()

    @torch.no_grad()
    def __call__(self, volumes: Tensor) -> Tensor:
        """Return features [B, 400] of volumes [B, D, H, W] in [0, 1]. Raises ValueError for too few slices."""
        _check_depth(volumes)
        frames = (volumes * 255)[:, None].expand(-1, 3, -1, -1, -1)
        features: Tensor = self.network.to(volumes.device)(frames, rescale=True, resize=True, return_features=True)
        return features


@FEATURES.register("i3d_pytorch")
class I3DPyTorch:
    """I3D's logits from a state dict in pytorch-i3d's layout: no code is loaded."""

    name = "I3D (pytorch-i3d)"
    stand_in: StandIn | None = None

    class Options(Section):
        """Source of the weights."""

        source: str = ""
        """File rgb_imagenet.pt, or another state dict with its names."""

    def __init__(self, options: Options) -> None:
        path = local_copy("i3d_pytorch", options.source)
        # Torch's own initialisation would be overwritten at once.
        with torch.device("meta"):
            network = I3DNetwork()
        with expecting("i3d_pytorch", path):
            network.load_state_dict(read_state(path), strict=True, assign=True)
        self.network = frozen(network)

    @torch.no_grad()
    def __call__(self, volumes: Tensor) -> Tensor:
        """Return features [B, 400] of volumes [B, D, H, W] in [0, 1]. Raises ValueError for too few slices."""
        _check_depth(volumes)
        resized = F.interpolate(volumes, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        frames = (resized * 2 - 1)[:, None].expand(-1, 3, -1, -1, -1)
        features: Tensor = self.network.to(volumes.device)(frames)
        return features


def _check_depth(volumes: Tensor) -> None:
    if volumes.shape[1] < FEWEST_FRAMES:
        raise ValueError(
            f"features: expected at least {FEWEST_FRAMES} slices; got {volumes.shape[1]}; take deeper volumes"
        )


@FEATURES.register("conv3d_standin")
class Conv3dStandIn:
    """Mean and spread of the activations of a seeded random 3D convolutional network."""

    name = "random 3D convolutions"
    stand_in: StandIn | None = StandIn("features", "conv3d_standin", "I3D (Kinetics-400)")

    class Options(Section):
        """Size of the network."""

        width: PositiveInt = 16
        """Channels of its first layer."""

    def __init__(self, options: Options) -> None:
        w = options.width
        # He's initialisation keeps the activations' scale from layer to layer; torch's default would shrink it.
        with seeded(0):
            self.network = frozen(
                nn.Sequential(
                    nn.Conv3d(1, w, 3, (1, 2, 2), 1),
                    nn.GELU(),
                    nn.Conv3d(w, 2 * w, 3, 2, 1),
                    nn.GELU(),
                    nn.Conv3d(2 * w, 2 * w, 3, 2, 1),
                    nn.GELU(),
                )
            )
            for layer in self.network:
                if isinstance(layer, nn.Conv3d):
                    nn.init.kaiming_normal_(layer.weight)

    @torch.no_grad()
    def __call__(self, volumes: Tensor) -> Tensor:
        """Return features [B, 4 * width] of volumes [B, D, H, W] in [0, 1]."""
        maps = self.network.to(volumes.device)(volumes[:, None]).flatten(2)
        return torch.cat((maps.mean(-1), maps.std(-1)), dim=1)
