"""The steps from a CT as read to two volumes on the target grid, as in the paper (Methods, Dataset)."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from x2c.data.preprocess.box import Box, box_of
from x2c.data.preprocess.lungs import COARSE_MM
from x2c.data.preprocess.resample import resample
from x2c.data.volume import Volume


def upright(volume: Volume) -> Volume:
    """Return the same voxels with their axes nearest to superior, posterior and left: transposed and flipped.

    Nothing is interpolated: what remains of a rotation stays in `direction`.
    """
    direction = np.array(volume.direction)
    order = max(permutations(range(3)), key=lambda p: float(np.abs(direction[range(3), p]).sum()))
    turned = direction[range(3), order] < 0
    hu = np.flip(volume.hu.transpose(order), tuple(np.flatnonzero(turned)))
    axes = direction[:, order] * np.where(turned, -1.0, 1.0)
    last = [count - 1 if back else 0 for count, back in zip(hu.shape, turned, strict=True)]
    origin = volume.affine[:3, 3] + volume.affine[:3, order] @ np.array(last)
    z, y, x = origin.tolist()
    rows = [(float(a), float(b), float(c)) for a, b, c in axes]
    dz, dy, dx = (volume.spacing_mm[axis] for axis in order)
    return Volume(hu, (dz, dy, dx), (z, y, x), (rows[0], rows[1], rows[2]))


def coarse(volume: Volume) -> Volume:
    """Return the whole upright volume at about 3 mm along its own axes, on which lungs and quality are judged."""
    own = Volume(volume.hu, volume.spacing_mm)
    box = box_of(own)
    seen = resample(own, box, box.shape_at(COARSE_MM))
    z, y, x = (volume.affine[:3, 3] + np.array(volume.direction) @ seen.origin_mm).tolist()
    return Volume(seen.hu, seen.spacing_mm, (z, y, x), volume.direction)


def on_grid(volume: Volume, box: Box, shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return the volume's HU on `shape` voxels [D, H, W] that fill the lungs' box, at any proportions, in one step.

    The paper goes by way of 1 mm, isotropic, and stretches that to 128 × 256 × 256; this is both steps in one.
    """
    return np.rint(resample(volume, box, shape).hu).astype(np.int16)


def halves(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return [2, D/2, H, W]: the even and the odd slices of [D, H, W]; each half spans the whole chest."""
    return np.stack([hu[0::2], hu[1::2]])
