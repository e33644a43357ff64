"""A CT volume in Hounsfield units, and the window that maps it to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Volume:
    """A CT volume.

    hu [D, H, W] float32: D runs from inferior to superior, H from anterior to posterior, W from the patient's
    right to left. spacing_mm and origin_mm (the centre of voxel 0) are ordered (z, y, x).
    """

    hu: Array
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise ValueError(f"Volume.hu: expected [D, H, W]; got shape {self.hu.shape}; pass one volume at a time")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"Volume.spacing_mm: expected three positive mm; got {self.spacing_mm}; check the header")


def _check(low_hu: float, high_hu: float) -> None:
    if not low_hu < high_hu:
        raise ValueError(f"window: expected low_hu < high_hu; got {low_hu} and {high_hu}; swap them")


def window(hu: Array, low_hu: float, high_hu: float) -> Array:
    """Map HU to [0, 1], clipping outside the window; any shape, float32 out."""
    _check(low_hu, high_hu)
    return np.clip((hu - low_hu) / (high_hu - low_hu), 0.0, 1.0).astype(np.float32)


def unwindow(unit: Array, low_hu: float, high_hu: float) -> Array:
    """Map [0, 1] back to HU: the inverse of `window` inside the window; any shape, float32 out."""
    _check(low_hu, high_hu)
    return (unit * (high_hu - low_hu) + low_hu).astype(np.float32)
