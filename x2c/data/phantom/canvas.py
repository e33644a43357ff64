"""Antialiased painting of primitives onto a voxel grid, each in its own bounding box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from x2c.data.volume import Array

Box = tuple[slice, slice, slice]
Matrix = NDArray[np.float64]
LATTICE_MM = 520.0


@dataclass(frozen=True)
class Grid:
    """Voxel centres in the scanner's frame, mm (z, y, x); the origin is voxel 0's centre."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    @staticmethod
    def centred(shape: tuple[int, int, int], field_mm: tuple[float, ...], centre_mm: tuple[float, ...]) -> Grid:
        """The grid of `shape` voxels that fills a field of view around a centre."""
        spacing = [f / n for f, n in zip(field_mm, shape, strict=True)]
        origin = [c - s * (n - 1) / 2 for c, s, n in zip(centre_mm, spacing, shape, strict=True)]
        return Grid(shape, (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]))

    def refined(self, factors: tuple[int, int, int]) -> Grid:
        """The same field of view with `factors` times as many voxels an axis."""
        shape = [n * f for n, f in zip(self.shape, factors, strict=True)]
        field = [n * s for n, s in zip(self.shape, self.spacing_mm, strict=True)]
        centre = [o + s * (n - 1) / 2 for o, s, n in zip(self.origin_mm, self.spacing_mm, self.shape, strict=True)]
        return Grid.centred((shape[0], shape[1], shape[2]), tuple(field), tuple(centre))

    def axes(self) -> list[Array]:
        """Coordinates of the voxel centres along z, y and x, mm."""
        return [
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.origin_mm, self.spacing_mm, self.shape, strict=True)
        ]


@dataclass(frozen=True)
class Frame:
    """An affine map from anatomy to scanner: matrix @ point + offset, mm (z, y, x)."""

    matrix: Matrix
    offset: Matrix

    def to_scanner(self, points: Matrix) -> Matrix:
        """Anatomical points [N, 3] to scanner points [N, 3]."""
        return points @ self.matrix.T + self.offset

    def coordinates(self, grid: Grid) -> list[Array]:
        """Anatomical z, y and x of every voxel, each [D, H, W]."""
        inverse = np.linalg.inv(self.matrix)
        offset = -inverse @ self.offset
        return [linear(grid.axes(), row, shift) for row, shift in zip(inverse, offset, strict=True)]


def linear(axes: list[Array], weights: Matrix, offset: float) -> Array:
    """weights . (z, y, x) + offset over a grid given by its axes: [D, H, W] float32."""
    z, y, x = (axis * np.float32(weight) for axis, weight in zip(axes, weights, strict=True))
    return (z + np.float32(offset))[:, None, None] + (y[:, None] + x)


class Canvas:
    """HU values on a grid [D, H, W], painted over with fractional coverage; starts as air."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.axes = grid.axes()
        self.hu: Array = np.full(grid.shape, -1000, dtype=np.float32)
        self.edge = float(np.prod(grid.spacing_mm) ** (1 / 3))

    def coverage(self, distance: Array) -> Array:
        """The share of a voxel inside a surface at signed distance (mm, negative inside)."""
        share: Array = np.clip(0.5 - distance * np.float32(1 / self.edge), 0, 1)
        return share

    def box(self, low: Matrix, high: Matrix) -> Box | None:
        """The voxels that something between two scanner points can touch; None when there are none."""
        slices: list[slice] = []
        for k in range(3):
            start = int(np.ceil((low[k] - self.edge - self.grid.origin_mm[k]) / self.grid.spacing_mm[k]))
            stop = int(np.floor((high[k] + self.edge - self.grid.origin_mm[k]) / self.grid.spacing_mm[k])) + 1
            start, stop = max(start, 0), min(stop, self.grid.shape[k])
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def blend(self, coverage: Array, hu: float | Array, box: Box | None = None) -> None:
        """Replace the covered share of the voxels (of a box) by another density."""
        target = self.hu if box is None else self.hu[box]
        target += coverage * (hu - target)

    def ellipsoid_distance(self, frame: Frame, centre: Matrix, axes: Matrix) -> tuple[Box, Array] | None:
        """About the signed distance to an ellipsoid in its box; the columns of `axes` are semi-axes."""
        semi = frame.matrix @ axes
        middle = frame.to_scanner(centre)
        reach = np.sqrt((semi**2).sum(1))
        box = self.box(middle - reach, middle + reach)
        if box is None:
            return None
        inverse = np.linalg.inv(semi)
        local = [axis[part] for axis, part in zip(self.axes, box, strict=True)]
        squared = sum(linear(local, row, -float(row @ middle)) ** 2 for row in inverse)
        radius = float(np.abs(np.linalg.det(semi)) ** (1 / 3))
        return box, ((np.sqrt(squared) - 1) * np.float32(radius)).astype(np.float32)

    def ellipsoid(self, frame: Frame, centre: Matrix, axes: Matrix, hu: float, within: Array | None = None) -> None:
        """Paint an ellipsoid, optionally only where a mask [D, H, W] allows."""
        found = self.ellipsoid_distance(frame, centre, axes)
        if found is not None:
            box, distance = found
            coverage = self.coverage(distance)
            self.blend(coverage if within is None else coverage * within[box], hu, box)

    def tubes(self, starts: Matrix, ends: Matrix, radii: Matrix) -> tuple[Box, Array] | None:
        """The box that tapered capsules (starts, ends [N, 3], radii [N, 2]) fill, and their coverage in it.

        Capsules thinner than a voxel are poured in by their volume, since a sampled distance would miss them.
        """
        reach = radii.max()
        around = self.box(np.minimum(starts, ends).min(0) - reach, np.maximum(starts, ends).max(0) + reach)
        if around is None:
            return None
        covered = np.zeros([part.stop - part.start for part in around], dtype=np.float32)
        corner = [part.start for part in around]
        spacing = np.array(self.grid.spacing_mm)
        thin = radii.mean(1) < 0.9 * spacing[1:].min()
        for start, end, (first, last) in zip(starts[~thin], ends[~thin], radii[~thin], strict=True):
            reach = max(first, last)
            box = self.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
            if box is None:
                continue
            axes = [axis[part] for axis, part in zip(self.axes, box, strict=True)]
            along = end - start
            length = float(along @ along) + 1e-9
            z, y, x = ((axis - np.float32(place)) ** 2 for axis, place in zip(axes, start, strict=True))
            ahead = linear(axes, along, -float(start @ along))
            t = np.clip(ahead * np.float32(1 / length), 0, 1)
            # |p - a - t d|^2, expanded so that only two terms are as large as the box.
            squared = z[:, None, None] + (y[:, None] + x) - t * (2 * ahead - t * np.float32(length))
            distance = np.sqrt(np.maximum(squared, 0)) - (np.float32(first) + t * np.float32(last - first))
            target = covered[tuple(slice(part.start - k, part.stop - k) for part, k in zip(box, corner, strict=True))]
            np.maximum(target, self.coverage(distance), out=target)
        if thin.any():
            self._pour(starts[thin], ends[thin], radii[thin], covered, np.array(corner))
        return around, covered

    def _pour(self, starts: Matrix, ends: Matrix, radii: Matrix, covered: Array, first: NDArray[np.int64]) -> None:
        """Spread thin capsules' volume over the voxels around them; `covered` starts at voxel `first`."""
        spacing = np.array(self.grid.spacing_mm)
        lengths = np.linalg.norm(ends - starts, axis=1)
        steps = np.maximum(np.ceil(lengths / (0.6 * spacing.min())), 1).astype(int)
        owner = np.repeat(np.arange(len(steps)), steps)
        t = (np.arange(len(owner)) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / steps[owner]
        radius = radii[owner, 0] * (1 - t) + radii[owner, 1] * t
        share = np.pi * radius**2 * (lengths / steps)[owner] / spacing.prod()
        points = starts[owner] * (1 - t)[:, None] + ends[owner] * t[:, None]
        position = (points - np.array(self.grid.origin_mm)) / spacing - first
        inside = np.all((position >= 0) & (position < np.array(covered.shape) - 1), axis=1)
        position, share = position[inside], share[inside]
        corner = position.astype(int)
        fraction = position - corner
        flat = covered.reshape(-1)
        for offset in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(offset, fraction, 1 - fraction), axis=1)
            index = np.ravel_multi_index(tuple((corner + offset).T), covered.shape)
            np.add.at(flat, index, (share * weight).astype(np.float32))
        np.clip(flat, 0, 1, out=flat)

    def interpolate(self, lattice: Array) -> Array:
        """Values on a lattice [n, n, n] that spans LATTICE_MM about the origin, interpolated to the grid."""
        count = lattice.shape[0]
        positions = [(axis / LATTICE_MM + 0.5) * (count - 1) for axis in self.axes]
        z, y, x = (np.maximum(1 - np.abs(p[:, None] - np.arange(count, dtype=np.float32)), 0) for p in positions)
        values: Array = y @ np.tensordot(z, lattice, axes=1) @ x.T
        return values

    def slabs(self, voxels: int) -> Iterator[tuple[slice, Canvas]]:
        """Parts of this canvas along z, of about `voxels` voxels each so that work on one stays in cache."""
        step = max(1, voxels // (self.grid.shape[1] * self.grid.shape[2]))
        for start in range(0, self.grid.shape[0], step):
            stop = min(start + step, self.grid.shape[0])
            z, y, x = self.grid.origin_mm
            part = Canvas.__new__(Canvas)
            part.grid = Grid(
                (stop - start, *self.grid.shape[1:]),
                self.grid.spacing_mm,
                (z + start * self.grid.spacing_mm[0], y, x),
            )
            part.axes = part.grid.axes()
            part.hu, part.edge = self.hu[start:stop], self.edge
            yield slice(start, stop), part
