"""What reading a CT gives: the volume, and what was odd about its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.when import Moment
from x2c.data.volume import Array, Volume

DAMAGED = "the file ends early or is damaged; copy it again"
RIGHT_ANGLED = 1e-3
"""How far the cosine between two axes may be from 0: headers hold few digits."""


@dataclass(frozen=True)
class Scan:
    """A CT as it came, with remarks on its files that the reader of a report should see."""

    volume: Volume
    remarks: tuple[str, ...] = ()
    taken: Moment | None = None


def grey_volume(path: Path, values: Array, axes_mm: NDArray[Any], origin_mm: NDArray[Any]) -> Volume:
    """A checked volume of values [D, H, W], float32.

    Column j of `axes_mm` [3, 3] is the step along array axis j in mm (z, y, x: superior, posterior, left). Raises
    FileError for too few voxels, numbers that are not finite, and a sheared or flat grid.
    """
    if min(values.shape) < 2:
        raise FileError(path, f"expected a volume; it has {' × '.join(map(str, values.shape))} voxels")
    if bad := values.size - int(np.isfinite(values).sum()):
        raise FileError(path, f"{bad} voxels are NaN or infinite; export it again")
    spacing = np.linalg.norm(axes_mm, axis=0)
    if not (np.isfinite(axes_mm).all() and np.isfinite(origin_mm).all() and spacing.min() > 0):
        raise FileError(path, "the grid has no extent along an axis; repair the header")
    direction = axes_mm / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=RIGHT_ANGLED):
        raise FileError(path, "the grid is sheared (a tilted gantry?); resample it to a right-angled one")
    z, y, x = (float(value) for value in origin_mm)
    dz, dy, dx = (float(value) for value in spacing)
    rows = [(float(a), float(b), float(c)) for a, b, c in direction]
    return Volume(np.ascontiguousarray(values, np.float32), (dz, dy, dx), (z, y, x), (rows[0], rows[1], rows[2]))
