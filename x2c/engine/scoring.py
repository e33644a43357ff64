"""Scores of volumes against the truth: what every row of a table is measured with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.metrics.distribution import frechet_distance, kernel_distance, paired_sqdist
from analysis.metrics.image import mae, psnr, ssim
from x2c.core.config import Config
from x2c.core.registry import FEATURES, PERCEPTUAL
from x2c.models.frozen import StandIn

DEEPEST_SSIM_WINDOW = 11
SLICES_AT_ONCE = 64


class Scorer:
    """The metrics of a config, with their networks loaded once."""

    def __init__(self, config: Config, device: torch.device) -> None:
        window: Any = config.evaluated.options.window
        self.window_width_hu = window.high_hu - window.low_hu
        self.perceptual: nn.Module = PERCEPTUAL.get(config.perceptual.name)(config.perceptual.options).to(device)
        self.features = FEATURES.get(config.features.name)(config.features.options)
        self.device = device

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The metric networks that stand in for pretrained ones."""
        return tuple(part.stand_in for part in (self.perceptual, self.features) if isinstance(part.stand_in, StandIn))

    def per_volume(self, volumes: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
        """The per-volume scores of [B, D, H, W] in [0, 1] against the truth, columns of scores.parquet."""
        deep = volumes.shape[1] >= DEEPEST_SSIM_WINDOW
        scores = {
            "psnr": psnr(volumes, truth),
            "ssim_2d": ssim(volumes, truth, dims=2),
            "ssim_3d": ssim(volumes, truth, dims=3) if deep else torch.full((len(volumes),), torch.nan),
            "mae_hu": mae(volumes, truth) * self.window_width_hu,
            "lpips": self.lpips(volumes, truth),
            "paired_feature_sqdist": paired_sqdist(self.of(volumes), self.of(truth)),
        }
        return {name: value.double().numpy() for name, value in scores.items()}

    def per_set(self, volumes: Tensor, truth: Tensor, reference: Tensor) -> dict[str, dict[str, Any]]:
        """Distances between the set of volumes and the set of true ones.

        The floor is the distance between as many real training volumes (`reference`) and the true ones: what a perfect
        generator would get at this n.
        """
        made, real, other = self.of(volumes), self.of(truth), self.of(reference)
        about = {
            "n": len(made),
            "dimension": made.shape[1],
            "extractor": self.features.name,
            "stand_in": self.features.stand_in is not None,
        }
        return {
            "frechet": {
                "value": float(frechet_distance(made, real)),
                "floor": float(frechet_distance(other, real)),
                **about,
            },
            "kernel": {
                "value": float(kernel_distance(made, real)),
                "floor": float(kernel_distance(other, real)),
                **about,
            },
        }

    @torch.no_grad()
    def lpips(self, volumes: Tensor, truth: Tensor) -> Tensor:
        """Mean perceptual distance over axial slices, [B]."""
        pairs = zip(_slices(volumes, self.device), _slices(truth, self.device), strict=True)
        distances = torch.cat([self.perceptual(a, b).cpu() for a, b in pairs])
        return distances.view(volumes.shape[:2]).mean(dim=1)

    def of(self, volumes: Tensor) -> Tensor:
        """Features [B, F] of volumes."""
        return torch.cat([self.features(part.to(self.device)).cpu() for part in volumes.split(4)])


def _slices(volumes: Tensor, device: torch.device) -> Iterator[Tensor]:
    for part in (volumes.flatten(0, 1) * 2 - 1).split(SLICES_AT_ONCE):
        yield part.to(device)
