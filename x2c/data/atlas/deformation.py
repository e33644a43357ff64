"""Maps of space that fold nothing: stationary velocity fields, their exponentials, and the way from scanner to template.

Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006: the flow of a smooth velocity
field is one-to-one, its inverse is the flow of the negative field, and scaling and squaring computes it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from x2c.data.volume import Array

Axes = tuple[Array, Array, Array]
NODE_MM = 6.0
"""Spacing of the nodes between which a map is interpolated, well below the fields' own smoothness."""
LARGEST_STEP = 0.2
"""Share of a lattice cell to which scaling reduces a field's largest step."""


def sample(values: Array, points: torch.Tensor) -> torch.Tensor:
    """Sample values [C, d, h, w] at points [D, H, W, 3] in [-1, 1], (x, y, z), as [C, D, H, W]: linear, clamped."""
    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
    return functional.grid_sample(given, points[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


def to_unit(points: Array, axes: Axes) -> torch.Tensor:
    """Return points [..., 3] in mm, (z, y, x), in the unit coordinates of a grid given by its axes."""
    low, high = (np.array([a[end] for a in axes], dtype=np.float32) for end in (0, -1))
    unit = (points - low) * (2 / (high - low)) - 1
    return torch.from_numpy(np.ascontiguousarray(unit[..., ::-1], dtype=np.float32))


def mesh(axes: Axes) -> Array:
    """Return the points [D, H, W, 3] of a grid given by its axes."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def exponential(velocity: Array, axes: Axes) -> Array:
    """Return the displacement [3, d, h, w], mm, of the flow of a velocity field [3, d, h, w] after unit time."""
    cell = np.array([a[1] - a[0] for a in axes], dtype=np.float32)
    largest = float((np.abs(velocity).max((1, 2, 3)) / cell).max())
    squarings = max(0, int(np.ceil(np.log2(max(largest, 1e-9) / LARGEST_STEP))))
    displacement: Array = velocity.astype(np.float32) / 2**squarings
    points = mesh(axes)
    for _ in range(squarings):
        moved = to_unit(points + displacement.transpose(1, 2, 3, 0), axes)
        displacement = displacement + sample(displacement, moved).numpy()
    return displacement


def jacobian(displacement: Array, axes: Axes) -> Array:
    """Return the smallest determinant [d-1, h-1, w-1] of x + displacement [3, d, h, w] at the corners of each cell.

    The map is linear along a cell's edges, and its determinants at the corners bound those inside for all but twisted
    cells: where all are positive nothing is folded.
    """
    points = mesh(axes) + displacement.transpose(1, 2, 3, 0)
    steps = [a[1] - a[0] for a in axes]
    edges = [np.diff(points, axis=axis) / steps[axis] for axis in range(3)]
    smallest: Array | None = None
    for corner in itertools.product((0, 1), repeat=3):
        columns = []
        for axis, edge in enumerate(edges):
            part = [slice(None) if k == axis else slice(c, edge.shape[k] - 1 + c) for k, c in enumerate(corner)]
            columns.append(edge[tuple(part)])
        determinant = np.einsum("...i,...i", columns[0], np.cross(columns[1], columns[2]))
        smallest = determinant if smallest is None else np.minimum(smallest, determinant)
    assert smallest is not None
    return smallest


@dataclass(frozen=True)
class Placement:
    """One pose of one patient: scanner = matrix @ (template + displacement there) + offset, mm (z, y, x)."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    forward: Array
    """Displacement [3, d, h, w] on the template's lattice."""
    backward: Array
    """The inverse's displacement, on the same lattice."""
    lattice: Axes

    def to_scanner(self, points: Array) -> Array:
        """Map template points [N, 3] to the scanner."""
        moved = points + sample(self.forward, to_unit(points, self.lattice)[None, None])[:, 0, 0].numpy().T
        scanned: Array = moved @ self.matrix.T + self.offset
        return scanned

    def to_template(self, points: Array) -> Array:
        """Map scanner points [D, H, W, 3] to the template."""
        inverse = np.linalg.inv(self.matrix)
        unposed = (points @ inverse.T - inverse @ self.offset).astype(np.float32)
        shift = sample(self.backward, to_unit(unposed, self.lattice))
        found: Array = unposed + shift.numpy().transpose(1, 2, 3, 0)
        return found


def resample(values: Array, template: Axes, placement: Placement, grid: Axes) -> Array:
    """Return the template's values [D, H, W] on a grid in the scanner: one interpolation, between voxels."""
    z, y, x = (_nodes(axis) for axis in grid)
    points = to_unit(placement.to_template(mesh((z, y, x))), template).permute(3, 0, 1, 2)[None]
    fine = functional.interpolate(points, size=[len(axis) for axis in grid], mode="trilinear", align_corners=True)[0]
    return sample(values[None], fine.permute(1, 2, 3, 0))[0].numpy()


def _nodes(axis: Array) -> Array:
    """Return places along an axis, about NODE_MM apart, between which the deformation is nearly linear."""
    return np.linspace(axis[0], axis[-1], max(2, int(np.ceil((axis[-1] - axis[0]) / NODE_MM)) + 1), dtype=np.float32)
