"""Segmentation of the lungs: by threshold and connected components, or by the network of `lungmask`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.core.errors import UserError
from x2c.data.volume import Volume

COARSE_MM = 3.0
"""Voxel size at which lungs are segmented: vessels and noise average out, and it takes a tenth of a second."""
LUNG_HU = -400.0
"""HU half way from aerated lung (about −850) to soft tissue (about 50)."""
LEAST_PART_ML = 80.0
"""Smallest volume of a pocket of lung: smaller ones are bowel, trachea or a cyst."""
LEAST_SHARE = 0.15
"""Share of the largest pocket below which another is not lung: even squeezed, the smaller lung has a third of both."""
GAS_HU = -970.0
"""HU below which gas contains no tissue; aerated lung, even an emphysematous one at 3 mm, is mostly above."""
RIM = 3
"""Voxels round gas that are gas and something else: by their size, and by smoothing."""
LEAST_GAS_ML = 30.0
BELOW_MM = 10.0
"""Height by which a pocket of gas must lengthen the lungs downwards to be taken for bowel."""
AIRWAY_HU, AIRWAY_CM2, AIRWAY_MM = -880.0, 8.0, 45.0
"""Limits of the trachea in a slice: darker than lung, smaller than this, and this near to the body's middle."""
TABLE_MM = 90.0
"""Largest height of a table: lungs are deeper."""
SPANNING, UNIFORM = 0.95, 0.1
"""Share of the slices that a table runs through, and the most that its area varies, as a share of its mean."""
LUNG_LIKE_HU = (-960.0, -500.0)
"""Range of HU of aerated lung, without the room's air."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Lungs:
    """The aerated lungs of a coarse volume [D, H, W].

    `mask` is what was found, without airways above the lungs and without bowel gas below them; `bowel_ml` the volume of
    the latter; `side_cm2` the area over which the lungs end at the sides of what was scanned.
    """

    mask: Mask
    bowel_ml: float = 0.0
    side_cm2: float = 0.0


def find_lungs(coarse: Volume, covered: Mask, segmenter: str = "threshold") -> Lungs:
    """Return the lungs in an upright volume of isotropic, coarse voxels, whose `covered` [D, H, W] ones were scanned.

    `threshold`: air that does not reach the sides of what was scanned, in pieces that are large enough, with the vessels
    in between. Fluid and consolidated lung are left out. `lungmask`: its network R231 (needs the package and its weights),
    which includes them. Raises UserError where either is missing.
    """
    if segmenter == "lungmask":
        return Lungs(_by_network(coarse) & covered)
    return _by_threshold(coarse, covered)


def volume_ml(mask: Mask, coarse: Volume) -> float:
    """Return the volume of a mask."""
    return float(mask.sum() * np.prod(coarse.spacing_mm) / 1000)


def sides(covered: Mask) -> Mask:
    """Return voxels at the sides of what was scanned, and not at its upper or lower end.

    Beside a voxel at an end that runs obliquely through the slices, the next slice is covered: its slope is less than 45°.
    """
    padded = np.pad(covered, 1)
    found = np.zeros_like(covered)
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        beside = np.roll(padded, step, axis)
        shallow = np.roll(beside, 1, 0) | np.roll(beside, -1, 0)
        found |= (padded & ~beside & ~shallow)[1:-1, 1:-1, 1:-1]
    return found


def room_air(air: Mask, covered: Mask) -> Mask:
    """Return air that reaches the sides of the scan within its own slice: the room, not the lungs, even cut ones."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    pieces, _ = ndimage.label(air, in_plane)
    touching = np.unique(pieces[sides(covered)])
    return np.isin(pieces, touching[touching > 0])


def middle_x(coarse: Volume, covered: Mask, slices: NDArray[np.int64]) -> float:
    """Return the body's middle from right to left, in voxels: the median over slices of the centre of its sides."""
    body = ndimage.binary_opening((coarse.hu > LUNG_HU) & covered, np.ones((1, 3, 3), bool))
    middles = []
    for number in slices:
        columns = np.flatnonzero(body[number].sum(0) > 2)
        if columns.size:
            middles.append((columns[0] + columns[-1]) / 2)
    return float(np.median(middles)) if middles else (coarse.hu.shape[2] - 1) / 2


def _by_threshold(coarse: Volume, covered: Mask) -> Lungs:
    air = (coarse.hu < LUNG_HU) & covered
    room = room_air(air, covered)
    voxel_ml = float(np.prod(coarse.spacing_mm)) / 1000
    opened = _at_sides(coarse, air & ~room, room)
    lungs = _large((air & ~room) | opened, voxel_ml)
    lungs &= ~_table(lungs, coarse)
    if not lungs.any():
        return Lungs(lungs)
    gas = _bowel(coarse, lungs, voxel_ml)
    lungs = _large(lungs & ~gas, voxel_ml)
    # Padding keeps the closing from eroding what touches the volume's ends.
    whole = np.pad(lungs, 3, mode="edge")
    closed = ndimage.binary_closing(whole, ndimage.generate_binary_structure(3, 1), 3)[3:-3, 3:-3, 3:-3]
    mask = closed & covered & ~ndimage.binary_dilation(gas)
    mask &= ~_airway(coarse, covered, mask)
    dz, dy, dx = coarse.spacing_mm
    contact = float((sides(covered) & opened & mask).sum()) * dz * (dy + dx) / 200
    return Lungs(mask, float(gas.sum()) * voxel_ml, contact)


def _large(air: Mask, voxel_ml: float) -> Mask:
    """Return the pieces of air that are large enough for a lung."""
    pieces, count = ndimage.label(air)
    if not count:
        return air
    voxels = np.bincount(pieces.ravel())[1:]
    needed = max(LEAST_PART_ML / voxel_ml, LEAST_SHARE * voxels.max())
    return np.isin(pieces, np.flatnonzero(voxels >= needed) + 1)


def _table(pieces_of_air: Mask, coarse: Volume) -> Mask:
    """Return the hollow table: a wide and flat piece of one cross-section through all of the scan."""
    pieces, _ = ndimage.label(pieces_of_air)
    found = np.zeros_like(pieces_of_air)
    _, dy, _ = coarse.spacing_mm
    for number, (_, rows, _) in enumerate(ndimage.find_objects(pieces), 1):
        piece = pieces == number
        areas = piece.sum((1, 2))
        # The first and the last slice may be cut.
        uniform = areas[1:-1].std() < UNIFORM * areas[1:-1].mean()
        if (rows.stop - rows.start) * dy < TABLE_MM and (areas > 0).mean() > SPANNING and uniform:
            found |= piece
    return found


def _bowel(coarse: Volume, lungs: Mask, voxel_ml: float) -> Mask:
    """Return pockets of gas that lengthen the lungs downwards, with their rims.

    Gas in the chest (bullae, a pneumothorax) and in the airways lies between or above lung, and stays.
    """
    # Noise would break gas up, and make some of the emphysema's voxels as dark.
    smooth = ndimage.gaussian_filter(coarse.hu, 1.0)
    pure = ndimage.binary_opening(lungs & (smooth < GAS_HU), ndimage.generate_binary_structure(3, 1), 2)
    pieces, count = ndimage.label(pure)
    found = np.zeros_like(lungs)
    if not count:
        return found
    rest = lungs & (ndimage.distance_transform_edt(~pure) > RIM)
    bottom = _bottom(rest)
    if bottom is None:
        # Gas alone is not bowel below lungs: its density shows that it is not lung.
        return found
    voxels = np.bincount(pieces.ravel())
    for number in range(1, count + 1):
        if voxels[number] * voxel_ml < LEAST_GAS_ML:
            continue
        piece = pieces == number
        if (bottom - np.flatnonzero(piece.any((1, 2)))[0]) * coarse.spacing_mm[0] > BELOW_MM:
            found |= (ndimage.distance_transform_edt(~piece) <= RIM) & lungs
    return found


def _bottom(lungs: Mask) -> int | None:
    """Return the lowest slice with more lung in it than the rim of something else."""
    slices = np.flatnonzero(ndimage.binary_opening(lungs, np.ones((1, 3, 3), bool)).any((1, 2)))
    return int(slices[0]) if slices.size else None


def _at_sides(coarse: Volume, inner: Mask, room: Mask) -> Mask:
    """Return lung that the field of view cuts open at the sides, so that it was taken for the room.

    Above or below, where a lung is narrower, it is air inside of the body (`inner`): foam under the patient is not.
    """
    low, high = LUNG_LIKE_HU
    in_plane = np.ones((1, 3, 3), bool)
    pieces, _ = ndimage.label(ndimage.binary_opening(room & (coarse.hu > low) & (coarse.hu < high), in_plane))
    touching = np.unique(pieces[ndimage.binary_dilation(ndimage.binary_opening(inner, in_plane))])
    return np.isin(pieces, touching[touching > 0])


def _airway(coarse: Volume, covered: Mask, mask: Mask) -> Mask:
    """Return the trachea and what lies above it: small dark pieces of slices near the body's middle."""
    _, dy, dx = coarse.spacing_mm
    slices = np.flatnonzero(mask.any((1, 2)))
    found = np.zeros_like(mask)
    if not slices.size:
        return found
    middle = middle_x(coarse, covered, slices)
    for number in slices[slices > (slices[0] + slices[-1]) / 2]:
        pieces, count = ndimage.label(mask[number])
        for piece in range(1, count + 1):
            here = pieces == piece
            off = abs(float(np.nonzero(here)[1].mean()) - middle) * dx
            small = here.sum() * dy * dx / 100 < AIRWAY_CM2
            if small and off < AIRWAY_MM and float(np.median(coarse.hu[number][here])) < AIRWAY_HU:
                found[number] |= here
    return found


def _by_network(coarse: Volume) -> Mask:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(coarse.hu)
    image.SetSpacing(coarse.spacing_mm[::-1])
    # The package switches off warnings when it is imported; here, for itself only.
    with warnings.catch_warnings():
        try:
            from lungmask import LMInferer
        except ImportError:
            raise UserError(
                "--lungs: 'lungmask' needs the package of this name; pip install 'x2c[lungmask]', or use threshold"
            ) from None
        try:
            network: Any = LMInferer(modelname="R231", tqdm_disable=True)
        except (OSError, RuntimeError):  # no network, or half a file
            raise UserError(
                "--lungs: lungmask's weights R231 could not be had; run it once where there is a network (it keeps them "
                "in torch's hub folder; copy that), or use threshold"
            ) from None
        return np.asarray(network.apply(image)) > 0
