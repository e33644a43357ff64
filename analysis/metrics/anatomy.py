"""Anatomical measurements in a volume, for data sets in which the structures of the true volume are known.

The structures of the true volume define where to measure; the same measurement on the true and on a generated
volume, instead of a label, gives the two numbers whose difference is the error.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RING_MM = 10.0
"""Distance in mm around the arteries that counts as their surroundings."""
REACH_MM = 20.0
"""Distance in mm from the true lungs up to which a generated lung is counted."""
HALF = 0.5
"""Smallest share of a voxel at which it belongs to a structure."""

Spacing = tuple[float, float, float]


def vessel_contrast_hu(volume_hu: Tensor, artery: Tensor, spacing_mm: Spacing) -> Tensor:
    """Return the contrast in HU between the pulmonary arteries and their surroundings.

    volume_hu: [B, D, H, W]. artery: the share of each voxel that is artery, [B, D, H, W] in [0, 1]. spacing_mm:
    (z, y, x). Returns [B]; NaN if no voxel is mostly artery.
    """
    inside = artery >= HALF
    around = (_within(inside, RING_MM, spacing_mm)) & (artery < 0.1)
    return _mean(volume_hu, inside) - _mean(volume_hu, around)


def lung_region(true_hu: Tensor, lung: Tensor, spacing_mm: Spacing, air_below_hu: float) -> Tensor:
    """Return the region in which dark voxels count as lung: true lungs, and bright voxels up to REACH_MM around them.

    true_hu: [B, D, H, W]. lung: share of each voxel that is lung in it, [B, D, H, W]. If the HU window ends above fat,
    fat is as dark as lung, and so is the air around the body: both are excluded, and so are the voxels beside them,
    which their blurred edges reach. Returns bool [B, D, H, W].
    """
    inside = lung >= HALF
    dark = (true_hu < air_below_hu) & (lung < 0.1)
    beside = F.max_pool3d(dark[:, None].float(), 3, 1, 1)[:, 0] > 0
    return inside | (_within(inside, REACH_MM, spacing_mm) & ~beside)


def lung_volume_ml(volume_hu: Tensor, region: Tensor, spacing_mm: Spacing, air_below_hu: float) -> Tensor:
    """Volume in a `lung_region` that is as dark as lung. volume_hu, region: [B, D, H, W]. Returns [B]."""
    z, y, x = spacing_mm
    return (region & (volume_hu < air_below_hu)).flatten(1).sum(1).double() * (z * y * x / 1000)


def lung_asymmetry(volume_hu: Tensor, lung: Tensor, region: Tensor, air_below_hu: float) -> Tensor:
    """Return the difference of air between the sides in % of both: fluid or a raised diaphragm reduces one side's.

    volume_hu, lung, region: as above. The sides meet in the middle of the true lungs, from their first to their last
    column. Positive: more where columns count higher. Returns [B]; NaN without true lung, or without air.
    """
    columns = (lung >= HALF).flatten(1, 2).any(1).double()
    place = torch.arange(lung.shape[-1], device=lung.device)
    first, last = columns.argmax(1), lung.shape[-1] - 1 - columns.flip(1).argmax(1)
    # +1, 0 or -1 for each column; 0 is the one in the middle.
    side = torch.sign(2 * place - (first + last)[:, None])
    dark = (region & (volume_hu < air_below_hu)).flatten(1, 2).sum(1).double()
    share = 100 * (dark * side).sum(1) / (dark * side.abs()).sum(1)
    return torch.where(columns.any(1), share, torch.nan)


def heart_width_mm(volume_hu: Tensor, heart: Tensor, spacing_mm: Spacing, air_below_hu: float) -> Tensor:
    """Width of the heart in mm, from lung to lung, at its widest: the mean over the widest fifth of its rows.

    volume_hu: [B, D, H, W]. heart: share of each voxel that is heart, in the true volume, [B, D, H, W]. A row in which no
    lung bounds the heart reaches to the end of the volume. Returns [B]; NaN where no voxel is mostly heart.
    """
    return torch.stack(
        [_row_width(hu, mask >= HALF, air_below_hu) * spacing_mm[2] for hu, mask in zip(volume_hu, heart, strict=True)]
    )


def _row_width(hu: Tensor, heart: Tensor, air_below_hu: float) -> Tensor:
    length = heart.sum(-1)
    if not bool(length.any()):
        return hu.new_full((), float("nan"), dtype=torch.float64)
    widest = length.flatten().sort(descending=True).values
    rows = length >= widest[: max(int((length > 0).sum()) // 5, 1)].min().clamp(min=1)
    place = torch.arange(hu.shape[-1], device=hu.device)
    member = heart[rows].double()
    middle = ((member * place).sum(-1) / member.sum(-1)).round()[:, None]
    air = hu[rows] < air_below_hu
    left = torch.where(air & (place < middle), place, -1).amax(-1)
    right = torch.where(air & (place > middle), place, hu.shape[-1]).amin(-1)
    return (right - left - 1).double().mean()


def _within(mask: Tensor, mm: float, spacing_mm: Spacing) -> Tensor:
    """Return the voxels of a box of this half width around each voxel of a mask [B, D, H, W]."""
    grown = mask[:, None].float()
    # Axis by axis: the same box for a fortieth of the work.
    for axis, spacing in enumerate(spacing_mm):
        reach = [int(mm / spacing) if a == axis else 0 for a in range(3)]
        grown = F.max_pool3d(grown, [2 * r + 1 for r in reach], 1, reach)
    return grown[:, 0] > 0


def _mean(volume: Tensor, mask: Tensor) -> Tensor:
    return (volume.double() * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)
