"""One resampling from a volume's own grid to another: cubic splines, averaged over the new voxels.

Along each axis the spline through the voxels is integrated over the new voxel. That is one matrix [new, old] an axis, so
that a whole volume takes three matrix products instead of a spline evaluation per voxel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from x2c.data.preprocess.box import Box, is_aligned
from x2c.data.volume import Array, Triple, Volume

AIR_HU, DENSEST_HU = -1024.0, 3071.0
"""Range of HU of a 12-bit CT. Padding is below and would cause ringing in the body."""
REACH = 16
"""Voxels over which a spline feels its neighbours: their influence falls to .27 of itself a voxel."""
FINER = 1.2
"""Ratio by which an oblique volume is kept finer than the new grid along its own axes, before it is interpolated."""
NEGLIGIBLE = 1e-9


def resample(volume: Volume, box: Box, shape: tuple[int, int, int]) -> Volume:
    """The volume on a grid of `shape` voxels [D, H, W] that fills `box`, through its affine and in one step.

    Where the new voxels are larger than the old ones they hold averages (no aliasing); where they are not, the cubic
    spline's values. Outside the volume is air. HU are clipped to [−1024, 3071] before and after.
    """
    spacing, origin = box.spacing_mm(shape), box.origin_mm(shape)
    hu = _aligned(volume, spacing, origin, shape) if is_aligned(volume) else _oblique(volume, spacing, origin, shape)
    return Volume(np.clip(hu, AIR_HU, DENSEST_HU, out=hu), spacing, origin)


def reduced(values: Array, shape: tuple[int, int, int]) -> Array:
    """Return values [D, H, W] on a grid of `shape` voxels that fills the same box, float32."""
    for axis, (new, old) in enumerate(zip(shape, values.shape, strict=True)):
        if new == old:
            continue
        step = old / new
        values = _apply(axis_matrix(old, (np.arange(new) + 0.5) * step - 0.5, step), values, axis)
    return values


def resized(picture: Array, size: int) -> Array:
    """Return a picture [n, n] at [size, size], float32: averages where it shrinks, splines where it grows."""
    made: Array = reduced(picture[None], (1, size, size))[0]
    return made


def axis_matrix(old: int, places: NDArray[Any], step: float) -> NDArray[np.float32]:
    """Return weights [new, old] that average the cubic spline through `old` voxels around `places`, in old voxels.

    `step` is a new voxel's size in old ones. The averaging width is √(step² − 1): nothing at the same spacing, so that a
    volume stays itself, and the new voxel's own width where it is much larger, since an old voxel is an average itself.
    """
    width = max(step**2 - 1, 0.0) ** 0.5
    pad = int(np.ceil(width / 2)) + 2
    grid = np.arange(-pad, old + pad)
    distance = places[:, None] - grid
    if width > 1e-3:
        weights = (_integral(distance + width / 2) - _integral(distance - width / 2)) / width
    else:
        weights = _bspline(distance)
    spread = np.zeros((len(places), old))
    for column, voxel in enumerate(_mirrored(grid, old)):
        spread[:, voxel] += weights[:, column]
    matrix = spread @ _coefficients(old)
    # A spline's influence never quite ends, and products of denormal numbers are thirty times as slow.
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return np.ascontiguousarray(matrix, np.float32)


def _aligned(volume: Volume, spacing: Triple, origin: Triple, shape: tuple[int, int, int]) -> Array:
    parts: list[slice] = []
    matrices: list[NDArray[np.float32]] = []
    beyond: list[NDArray[np.bool_]] = []
    for old, old_mm, old_origin, new, new_mm, new_origin in zip(
        volume.hu.shape, volume.spacing_mm, volume.origin_mm, shape, spacing, origin, strict=True
    ):
        step = new_mm / old_mm
        places = (new_origin - old_origin) / old_mm + step * np.arange(new)
        beyond.append((places < -0.5) | (places > old - 0.5))
        places = np.clip(places, -0.5, old - 0.5)
        low = max(int(places[0] - step) - REACH, 0)
        high = min(int(places[-1] + step) + REACH + 2, old)
        parts.append(slice(low, high))
        matrices.append(axis_matrix(high - low, places - low, step))
    hu = np.clip(volume.hu[tuple(parts)], AIR_HU, DENSEST_HU)
    # The axis that shrinks most is first: the other products then have less to do.
    for axis in np.argsort([matrix.shape[0] / matrix.shape[1] for matrix in matrices]):
        hu = _apply(matrices[axis], hu, int(axis))
    for axis, outside in enumerate(beyond):
        np.moveaxis(hu, axis, 0)[outside] = AIR_HU
    return hu


def _oblique(volume: Volume, spacing: Triple, origin: Triple, shape: tuple[int, int, int]) -> Array:
    """Resample if the axes are not the patient's: averaged along the volume's own, then interpolated by ITK."""
    import SimpleITK as sitk

    direction = np.array(volume.direction)
    reach = np.sqrt(((direction * np.array(spacing)[:, None]) ** 2).sum(0))
    part = _part_for(volume, spacing, origin, shape, reach)
    hu = np.clip(volume.hu[part], AIR_HU, DENSEST_HU)
    first, steps = [float(cut.start) for cut in part], [1.0, 1.0, 1.0]
    for axis, (wide, own) in enumerate(zip(reach, volume.spacing_mm, strict=True)):
        if wide > own:
            # Voxels that the averages make redundant would cost ITK's splines most of their time.
            count = min(hu.shape[axis], math.ceil(hu.shape[axis] * own / wide * FINER))
            steps[axis] = hu.shape[axis] / count
            places = (np.arange(count) + 0.5) * steps[axis] - 0.5
            first[axis] += places[0]
            hu = _apply(axis_matrix(hu.shape[axis], places, wide / own), hu, axis)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing([float(mm * step) for mm, step in zip(volume.spacing_mm, steps, strict=True)][::-1])
    image.SetOrigin((volume.affine @ [*first, 1.0])[2::-1].tolist())
    image.SetDirection(direction[::-1, ::-1].ravel().tolist())
    identity = np.eye(3).ravel().tolist()
    spline = sitk.sitkBSpline
    made = sitk.Resample(image, shape[::-1], sitk.Transform(), spline, origin[::-1], spacing[::-1], identity, AIR_HU)
    return sitk.GetArrayFromImage(made)


def _part_for(
    volume: Volume, spacing: Triple, origin: Triple, shape: tuple[int, int, int], reach: NDArray[Any]
) -> tuple[slice, ...]:
    """Return the part of a volume that a grid depends on: all that its splines and averages reach."""
    corners = np.array(np.meshgrid(*([-0.5, count - 0.5] for count in shape), indexing="ij")).reshape(3, -1)
    places = np.array(origin)[:, None] + np.array(spacing)[:, None] * corners
    into = np.linalg.inv(volume.affine)
    voxels = into[:3, :3] @ places + into[:3, 3:]
    part = []
    for axis, count in enumerate(volume.hu.shape):
        beyond = REACH + reach[axis] / volume.spacing_mm[axis]
        low, high = int(voxels[axis].min() - beyond), int(voxels[axis].max() + beyond) + 2
        # A grid beside the volume needs none of it: its nearest planes stand for it.
        part.append(slice(min(max(low, 0), count - 2), min(max(high, 2), count)))
    return tuple(part)


def _apply(matrix: NDArray[np.float32], values: Array, axis: int) -> Array:
    """Apply weights [new, old] along an axis of values [D, H, W]."""
    depth, height, width = values.shape
    if axis == 0:
        return (matrix @ values.reshape(depth, -1)).reshape(-1, height, width)
    if axis == 1:
        product: Array = np.matmul(matrix, values)
        return product
    return (values.reshape(-1, width) @ matrix.T).reshape(depth, height, -1)


def _mirrored(indices: NDArray[Any], count: int) -> NDArray[Any]:
    """Return indices beyond the ends, mirrored at the end voxels' outer edges."""
    folded = indices % (2 * count)
    inside: NDArray[Any] = np.minimum(folded, 2 * count - 1 - folded)
    return inside


def _bspline(x: NDArray[Any]) -> NDArray[Any]:
    """Return the cubic B-spline."""
    a = np.abs(x)
    return np.where(a < 1, 2 / 3 - a**2 + a**3 / 2, np.where(a < 2, (2 - a) ** 3 / 6, 0.0))


def _integral(x: NDArray[Any]) -> NDArray[Any]:
    """Return the integral of the cubic B-spline from 0 to x."""
    a = np.minimum(np.abs(x), 2.0)
    inner = 2 / 3 * a - a**3 / 3 + a**4 / 8
    outer = 0.5 - (2 - a) ** 4 / 24
    integral: NDArray[Any] = np.sign(x) * np.where(a < 1, inner, outer)
    return integral


@lru_cache(maxsize=32)
def _coefficients(count: int) -> NDArray[np.float64]:
    """Return the matrix [count, count] from samples to the coefficients of the cubic spline through them, mirrored."""
    bands = np.array([[1 / 6] * count, [2 / 3] * count, [1 / 6] * count])
    bands[1, 0] += 1 / 6
    bands[1, -1] += 1 / 6
    coefficients: NDArray[np.float64] = solve_banded((1, 1), bands, np.eye(count))
    return coefficients
