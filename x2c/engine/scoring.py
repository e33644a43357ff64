"""Scores of volumes against the truth: the metrics of every row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.metrics import anatomy
from analysis.metrics.distribution import frechet_distance, paired_sqdist
from analysis.metrics.image import lpips, mae_hu, ms_ssim, psnr, ssim
from x2c.core.config import AnySlot, Config
from x2c.core.files import digest
from x2c.core.published import asset_of
from x2c.core.slot import source_of
from x2c.core.weights import source_fingerprint
from x2c.engine.entries import features_of, perceptual_of
from x2c.engine.feature_store import VOLUMES_AT_ONCE, FeatureStore
from x2c.models.chunks import at_once
from x2c.models.frozen import StandIn

SSIM_WINDOW, MS_SSIM_WINDOW = 11, 176
"""Fewest voxels per axis that the metrics accept."""
SLICES_PER_PLANE = 16
"""Number of evenly spaced slices per volume and plane, for the distance between sets of slices."""
LUNG_HU, SOFT_TISSUE_HU = -850.0, 40.0
"""HU below halfway between the two count as air; a window that starts above the lung's HU replaces it by its start."""


@dataclass(frozen=True)
class Features:
    """Features of a set of volumes: per volume, [N, F], and per slice in three planes, [N, 3, SLICES_PER_PLANE, F]."""

    volumes: Tensor
    slices: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Return the features of several sets as those of one set."""
        return cls(torch.cat([part.volumes for part in parts]), torch.cat([part.slices for part in parts]))


def groups(count: int, shape: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the positions 0 to count - 1 in groups of as many as networks take volumes of shape [D, H, W] at once."""
    size = at_once(shape, VOLUMES_AT_ONCE)
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


class Scorer:
    """The metrics of a config, with their networks loaded once."""

    def __init__(self, config: Config, device: torch.device) -> None:
        window = config.evaluated.options.window
        self.window_hu = (window.low_hu, window.high_hu)
        self.perceptual, self.features = perceptual_of(config).to(device), features_of(config)
        self.weights = {slot: weights_of(config.slots[slot]) for slot in ("perceptual", "features")}
        self.device, cache = device, Path(config.compute.cache) / "features"
        self.of_volumes = FeatureStore(cache / self.weights["features"][:16], lambda v: self.features(v.to(device)))
        self.of_slices = FeatureStore(cache / f"slices-{self.weights['perceptual'][:16]}", self._slice_features)

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The metric networks that take the place of pretrained ones."""
        return tuple(part.stand_in for part in (self.perceptual, self.features) if part.stand_in)

    def per_volume(self, volumes: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
        """Return the per-volume scores of [B, D, H, W] in [0, 1] against the truth, columns of scores.parquet.

        NaN where the volumes are too small for a metric's window.
        """
        depth, *plane = volumes.shape[1:]
        absent = torch.full((len(volumes),), torch.nan)
        scores = {
            "psnr": psnr(volumes, truth),
            "ssim_2d": ssim(volumes, truth, dims=2),
            "ssim_3d": ssim(volumes, truth, dims=3) if depth >= SSIM_WINDOW else absent,
            "ms_ssim": ms_ssim(volumes, truth) if min(plane) >= MS_SSIM_WINDOW else absent,
            "mae_hu": mae_hu(volumes, truth, *self.window_hu),
            "lpips": self.lpips(volumes, truth),
            "paired_feature_sqdist": paired_sqdist(self.of_volumes(volumes), self.of_volumes(truth)),
        }
        return {name: value.double().numpy() for name, value in scores.items()}

    def per_structure(
        self, volumes: Tensor, truth: Tensor, structures: Mapping[str, Tensor], spacing_mm: tuple[float, float, float]
    ) -> dict[str, np.ndarray]:
        """Return errors in radiologists' measurements, made minus true, if structures' shares of voxels are known."""
        low, high = self.window_hu
        air_below = (max(low, LUNG_HU) + SOFT_TISSUE_HU) / 2
        lung = structures["lung"]
        region = anatomy.lung_region(truth * (high - low) + low, lung, spacing_mm, air_below)

        def measured(unit: Tensor) -> dict[str, Tensor]:
            hu = unit * (high - low) + low
            return {
                "vessel_contrast_error_hu": anatomy.vessel_contrast_hu(hu, structures["artery"], spacing_mm),
                "lung_volume_error_ml": anatomy.lung_volume_ml(hu, region, spacing_mm, air_below),
                "lung_asymmetry_error": anatomy.lung_asymmetry(hu, lung, region, air_below),
                "heart_width_error_mm": anatomy.heart_width_mm(hu, structures["heart"], spacing_mm, air_below),
            }

        made, true = measured(volumes), measured(truth)
        return {name: (made[name] - true[name]).double().numpy() for name in made}

    def features_of(self, volumes: Tensor) -> Features:
        """Return the features of volumes [B, D, H, W] in [0, 1] for `per_set`."""
        return Features(self.of_volumes(volumes), self.of_slices(volumes))

    def per_set(self, made: Features, real: Features, reference: Features) -> dict[str, dict[str, Any]]:
        """Return distances between the set of made volumes and the set of true ones.

        Volume i was made for true volume i. `training_vs_test` is the same distance between as many training volumes
        (`reference`) and the true ones: the distance of other real patients at this n. It is no lower bound: volumes
        that equal the true ones have a Fréchet distance of 0.
        """
        distances = _between(made.volumes, real.volumes, paired=True)
        of_training = _between(reference.volumes, real.volumes, paired=False)
        about = self._about("features", self.features.name, made.volumes.shape[1], len(made.volumes))
        name = f"{type(self.perceptual).__name__}, slices in three planes"
        about_slices = self._about("perceptual", name, made.slices.shape[-1], len(made.slices))
        return {
            "frechet": {"value": distances["frechet"], "training_vs_test": of_training["frechet"], **about},
            "kernel": {
                "value": distances["kernel"],
                "p": distances["kernel_p"],
                "training_vs_test": of_training["kernel"],
                "training_vs_test_p": of_training["kernel_p"],
                **about,
            },
            "frechet_2d": {
                "value": _slice_distance(made.slices, real.slices),
                "training_vs_test": _slice_distance(reference.slices, real.slices),
                "slices_per_plane": SLICES_PER_PLANE,
                **about_slices,
            },
        }

    def lpips(self, volumes: Tensor, truth: Tensor) -> Tensor:
        """Return the mean perceptual distance over axial slices, [B]."""
        count = at_once(volumes.shape[1:], VOLUMES_AT_ONCE)
        pairs = zip(volumes.split(count), truth.split(count), strict=True)
        with torch.no_grad():
            return torch.cat([lpips(a.to(self.device), b.to(self.device), self.perceptual).cpu() for a, b in pairs])

    def _about(self, slot: Literal["perceptual", "features"], name: str, dimension: int, n: int) -> dict[str, Any]:
        """Return the settings that a distance of sets depends on besides the volumes."""
        part = self.perceptual if slot == "perceptual" else self.features
        return {
            "n": n,
            "dimension": dimension,
            "extractor": name,
            "weights": self.weights[slot],
            "stand_in": part.stand_in is not None,
            "window_hu": list(self.window_hu),
        }

    @torch.no_grad()
    def _slice_features(self, volumes: Tensor) -> Tensor:
        """Return features [B, 3, SLICES_PER_PLANE, F] of axial, coronal and sagittal slices."""
        planes = []
        for axis in (1, 2, 3):
            places = np.linspace(0, volumes.shape[axis] - 1, SLICES_PER_PLANE).round().astype(int)
            slices = volumes.movedim(axis, 1)[:, places].flatten(0, 1) * 2 - 1
            planes.append(self.perceptual.features(slices.to(self.device)).unflatten(0, (-1, SLICES_PER_PLANE)).cpu())
        return torch.stack(planes, dim=1)


def weights_of(slot: AnySlot) -> str:
    """Return the SHA-256 of a metric's weights; if they are drawn from a seed, of its name and options."""
    asset = asset_of(slot.name)
    if asset is None:
        return digest(slot.model_dump(mode="json"), 64)
    return source_fingerprint(source_of(slot.options), asset.name)


def _slice_distance(made: Tensor, real: Tensor) -> float:
    """Return the mean over the three planes of the Fréchet distance between sets of slices [N, 3, S, F]: a 2.5D FID."""
    return sum(frechet_distance(made[:, p].flatten(0, 1), real[:, p].flatten(0, 1)) for p in range(3)) / 3


def _between(made: Tensor, real: Tensor, *, paired: bool) -> dict[str, float]:
    # Imported here: torchmetrics takes seconds, and only finished runs need it.
    from analysis.metrics.stateful import FeatureSets

    sets = FeatureSets(paired=paired, sync_on_compute=False)
    sets.update(made, real=False)
    sets.update(real, real=True)
    return sets.compute()
