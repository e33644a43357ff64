"""A CT volume in Hounsfield units, and the window that maps it to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Triple = tuple[float, float, float]
Direction = tuple[Triple, Triple, Triple]
CANONICAL: Direction = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Volume:
    """A CT volume: hu [D, H, W] float32 in the patient's space, whose axes (z, y, x) run to superior, posterior and left.

    The centre of voxel i lies at origin_mm + direction @ (spacing_mm · i). Column j of `direction` is the unit vector
    along which array axis j runs; where it is CANONICAL, D runs from inferior to superior, H from anterior to posterior
    and W from the patient's right to left. Everything is ordered (z, y, x).
    """

    hu: Array
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: Direction = CANONICAL

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise ValueError(f"Volume.hu: expected [D, H, W]; got shape {self.hu.shape}; pass one volume at a time")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"Volume.spacing_mm: expected three positive mm; got {self.spacing_mm}; check the header")

    @property
    def affine(self) -> NDArray[np.float64]:
        """Matrix [4, 4] from homogeneous voxel indices (z, y, x) to mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction) * np.array(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix


def _check(low_hu: float, high_hu: float) -> None:
    if not low_hu < high_hu:
        raise ValueError(f"window: expected low_hu < high_hu; got {low_hu} and {high_hu}; swap them")


def window(hu: Array, low_hu: float, high_hu: float) -> Array:
    """Map HU to [0, 1], clipping outside the window; any shape, float32 out."""
    _check(low_hu, high_hu)
    windowed: Array = np.clip((hu - low_hu) / (high_hu - low_hu), 0.0, 1.0).astype(np.float32)
    return windowed


def unwindow(unit: Array, low_hu: float, high_hu: float) -> Array:
    """Map [0, 1] back to HU: the inverse of `window` inside the window; any shape, float32 out."""
    _check(low_hu, high_hu)
    return (unit * (high_hu - low_hu) + low_hu).astype(np.float32)


def mirrored(values: Array) -> Array:
    """Return volumes or radiographs [..., W] with left and right exchanged: the same chest in a mirror."""
    return values[..., ::-1]


def averaged(values: Array, shape: tuple[int, int, int]) -> Array:
    """Average values [d, h, w] to [D, H, W] = shape; each axis must be a whole multiple. Float32 out if averaged."""
    factors = [n // m for n, m in zip(values.shape, shape, strict=True)]
    if max(factors) == 1:
        return values
    blocks = [n for pair in zip(shape, factors, strict=True) for n in pair]
    means: Array = values.reshape(blocks).mean((1, 3, 5), dtype=np.float32)
    return means
