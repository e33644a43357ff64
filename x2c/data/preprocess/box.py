"""A right-angled region of the patient's space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data.volume import CANONICAL, Triple, Volume


@dataclass(frozen=True)
class Box:
    """From the lower to the upper edge along (z, y, x), mm; edges of voxels, not their centres."""

    low_mm: Triple
    high_mm: Triple

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low_mm, self.high_mm, strict=True)):
            raise ValueError(f"Box: expected low_mm < high_mm; got {self.low_mm} and {self.high_mm}; swap them")

    @property
    def size_mm(self) -> Triple:
        """Extent along (z, y, x), mm."""
        dz, dy, dx = (high - low for low, high in zip(self.low_mm, self.high_mm, strict=True))
        return dz, dy, dx

    def spacing_mm(self, shape: tuple[int, int, int]) -> Triple:
        """Return the size of a voxel if `shape` of them fill the box."""
        dz, dy, dx = (size / count for size, count in zip(self.size_mm, shape, strict=True))
        return dz, dy, dx

    def origin_mm(self, shape: tuple[int, int, int]) -> Triple:
        """Return the centre of the first of `shape` voxels that fill the box."""
        z, y, x = (low + step / 2 for low, step in zip(self.low_mm, self.spacing_mm(shape), strict=True))
        return z, y, x

    def shape_at(self, mm: float) -> tuple[int, int, int]:
        """Return the number of voxels of about `mm` that fill it, at least one along each axis."""
        depth, height, width = (max(1, round(size / mm)) for size in self.size_mm)
        return depth, height, width

    def grown(self, mm: float) -> Box:
        """Return the box with a margin on every side."""
        (a, b, c), (d, e, f) = self.low_mm, self.high_mm
        return Box((a - mm, b - mm, c - mm), (d + mm, e + mm, f + mm))

    def within(self, other: Box) -> Box:
        """Return the part of the box that lies in another."""
        low = [max(a, b) for a, b in zip(self.low_mm, other.low_mm, strict=True)]
        high = [min(a, b) for a, b in zip(self.high_mm, other.high_mm, strict=True)]
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def box_of(volume: Volume) -> Box:
    """Return the smallest box that holds a volume in any orientation."""
    corners = np.array(np.meshgrid(*([-0.5, count - 0.5] for count in volume.hu.shape), indexing="ij")).reshape(3, -1)
    places = volume.affine[:3, :3] @ corners + volume.affine[:3, 3:]
    low, high = places.min(1).tolist(), places.max(1).tolist()
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def is_aligned(volume: Volume, tolerance: float = 1e-3) -> bool:
    """Return whether a volume's axes are the patient's; `tolerance` is .4 mm over 400 mm."""
    return bool(np.allclose(volume.direction, CANONICAL, atol=tolerance))
