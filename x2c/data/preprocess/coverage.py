"""Coverage of a CT: the voxels that were scanned, as opposed to those that only fill the array.

Programs that resample, crop or pad fill with a constant: 0, −1024, −2000, … It stands in frames, in the corners of an
oblique box, outside of a circular field of reconstruction. Lungs that end beside it are cut off, and air beside it is not
the room's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.data.preprocess.box import Box
from x2c.data.preprocess.resample import AIR_HU
from x2c.data.volume import Array, Volume

Mask = NDArray[np.bool_]
SAMPLED_MM = 3.0
"""Distance between the voxels that are sampled, mm."""
EDGE_SHARE = 0.06
"""Share of the sampled voxels on the volume's twelve edges that have a value before it may be a fill: all of one edge
have it where a volume was turned a little."""
LEAST_SHARE = 5e-4
"""Share of the volume that a fill takes; less is noise that was clipped."""
NOISY = 0.3
"""Share of neighbours in a plane that differ where it holds noise, as every scan does."""
QUIET_HU = 20.0
"""Range of a plane that holds nothing: a constant, or one to which less noise was added than any scan has."""
RIPPLE_HU = 1.0
"""Distance from a fill's value up to which a voxel belongs to it."""
FRAME = 2
"""Voxels that are put round a volume to look at its edges."""
FEWEST_PLANES = 2
PROBES = 24
"""Points along each axis of a box at which coverage is looked up."""


@dataclass(frozen=True)
class Coverage:
    """The covered voxels of a volume, sampled at every `steps`-th one: `mask` [d, h, w] holds these samples."""

    mask: Mask
    steps: tuple[int, int, int]

    @property
    def is_whole(self) -> bool:
        """Whether all of the volume is covered."""
        return bool(self.mask.all())

    def on(self, shape: tuple[int, ...], of: tuple[int, ...]) -> Mask:
        """Return the mask on a grid of `shape` voxels that fills the box of the volume, whose own shape is `of`."""
        places = [(np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip(shape, of, strict=True)]
        return self.mask[np.ix_(*(self._sampled(axis, place) for axis, place in enumerate(places)))]

    def at(self, voxels: NDArray[np.float64], of: tuple[int, ...]) -> Mask:
        """Return whether places [3, N], in voxels of a volume of shape `of`, are covered; outside of it nothing is."""
        inside = np.all(
            [(place > -0.5) & (place < count - 0.5) for place, count in zip(voxels, of, strict=True)], axis=0
        )
        found = np.zeros(voxels.shape[1], bool)
        found[inside] = self.mask[tuple(self._sampled(axis, voxels[axis, inside]) for axis in range(3))]
        return found

    def _sampled(self, axis: int, places: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.clip(np.rint(places / self.steps[axis]), 0, self.mask.shape[axis] - 1).astype(np.int64)


def trimmed(volume: Volume) -> tuple[Volume, tuple[int, int, int]]:
    """Return the volume without outer planes that hold nothing of their own, and how many were removed along each axis.

    Such planes are as good as constant, or they repeat their inner neighbour with its noise. At least two planes stay.
    """
    hu, first = volume.hu, [0, 0, 0]
    for axis in range(3):
        low, high = _span(np.moveaxis(hu, axis, 0))
        hu = hu[(*[slice(None)] * axis, slice(low, high))]
        first[axis] = low
    taken = tuple(before - after for before, after in zip(volume.hu.shape, hu.shape, strict=True))
    if not any(taken):
        return volume, (0, 0, 0)
    z, y, x, _ = (volume.affine @ [*first, 1.0]).tolist()
    return Volume(hu, volume.spacing_mm, (z, y, x), volume.direction), (taken[0], taken[1], taken[2])


def coverage(volume: Volume) -> Coverage:
    """Return the covered part of a trimmed volume: all but constant regions that reach its edges."""
    steps = [max(1, int(SAMPLED_MM / mm)) for mm in volume.spacing_mm]
    # Smooth interpolation leaves a fill as it is but for its last digits.
    sampled = np.rint(volume.hu[:: steps[0], :: steps[1], :: steps[2]])
    fill = np.zeros(sampled.shape, bool)
    for value in _edge_values(sampled):
        # Thin along the slices' normal: what an oblique box leaves over a slice may be one slice thick.
        solid = ndimage.binary_opening(_framed(np.abs(sampled - value) <= RIPPLE_HU), np.ones((1, 3, 3), bool))
        pieces, _ = ndimage.label(solid)
        outer = np.unique(pieces[~ndimage.binary_erosion(np.ones(pieces.shape, bool), iterations=FRAME + 1)])
        found = np.isin(pieces, outer[outer > 0])[FRAME:-FRAME, FRAME:-FRAME, FRAME:-FRAME]
        if found.mean() > LEAST_SHARE:
            fill |= found
    if fill.any() and not fill.all():
        # Resampling mixes a fill with what lies beside it.
        fill = ndimage.binary_dilation(fill)
    return Coverage(~fill if not fill.all() else np.ones_like(fill), (steps[0], steps[1], steps[2]))


def filled_with_air(volume: Volume, covered: Coverage) -> Volume:
    """Return the volume with air wherever it is not covered, so that no fill rings into the body in resampling."""
    if covered.is_whole:
        return volume
    hu = volume.hu.copy()
    depth, shape = len(hu), hu.shape
    planes = covered.on((depth, *shape[1:]), shape)
    hu[~planes] = AIR_HU
    return Volume(hu, volume.spacing_mm, volume.origin_mm, volume.direction)


def uncovered_share(volume: Volume, covered: Coverage, box: Box) -> float:
    """Return the share of a box, 0 to 1, that is not covered."""
    fractions = (np.arange(PROBES) + 0.5) / PROBES
    places = np.stack(
        np.meshgrid(
            *(low + fractions * (high - low) for low, high in zip(box.low_mm, box.high_mm, strict=True)), indexing="ij"
        )
    ).reshape(3, -1)
    into = np.linalg.inv(volume.affine)
    return float(1 - covered.at(into[:3, :3] @ places + into[:3, 3:], volume.hu.shape).mean())


def _span(planes: Array) -> tuple[int, int]:
    """Return the first plane and the plane after the last that hold something in planes [N, h, w]."""
    low, high = 0, len(planes)
    while high - low > FEWEST_PLANES and _is_empty(planes[low], planes[low + 1]):
        low += 1
    while high - low > FEWEST_PLANES and _is_empty(planes[high - 1], planes[high - 2]):
        high -= 1
    # A volume with one value everywhere is not a frame around something.
    return (low, high) if high - low > FEWEST_PLANES else (0, len(planes))


def _is_empty(plane: Array, inner: Array) -> bool:
    if abs(float(plane.flat[0]) - float(plane.flat[-1])) <= QUIET_HU and np.ptp(plane) <= QUIET_HU:
        return True
    return bool(np.array_equal(plane, inner) and (np.diff(plane, axis=-1) != 0).mean() > NOISY)


def _edge_values(sampled: Array) -> list[float]:
    """Return values that several voxels on the twelve edges of a volume share, the most frequent ones first."""
    ends = (0, -1)
    lines = [sampled[:, y, x] for y in ends for x in ends]
    lines += [sampled[z, :, x] for z in ends for x in ends] + [sampled[z, y, :] for z in ends for y in ends]
    values, counts = np.unique(np.concatenate(lines), return_counts=True)
    order = np.argsort(-counts)
    return [float(values[index]) for index in order[:4] if counts[index] >= EDGE_SHARE * counts.sum()]


def _framed(mask: Mask) -> Mask:
    """Pad with voxels at every side, as at the side: opening would otherwise remove a fill that is thin there."""
    return np.pad(mask, FRAME, mode="edge")
