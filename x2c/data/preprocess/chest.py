"""The box of a chest: of both lungs, and of the whole chest if a part of them cannot be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from x2c.data.preprocess.box import Box, box_of
from x2c.data.preprocess.lungs import LUNG_HU, Lungs, Mask, middle_x, volume_ml
from x2c.data.volume import Volume

ONE_SIDED = 0.25
"""Volume of the smaller lung in that of the larger one below which it is opaque, collapsed or missing. Squeezed by a heart
or a raised diaphragm, the smaller one has a half."""
SHALLOW = 0.62
"""Depth of the lungs in that of the body below which a part of them is opaque. Measured: .72 to .80 in a real and in made-up
chests, .55 with effusions of a third of the depth."""
THINNEST_WALL_MM = 25.0
"""Smallest thickness of the chest's wall in front or behind, unless the other side shows a larger one."""
FLAT, USUAL_HEIGHT = 0.76, 0.9
"""Height of the lungs in their width below which their bases are opaque, and the height that is taken then. Measured: .88
to 1.09 in a real and in made-up chests, .69 to .75 with effusions of a third of the height."""
LARGEST_TOP_CM2 = 12.0
"""Lung area at the upper end of a scan up to which the lungs are whole there."""
BODY_WIDTH = 0.4
"""Share of the widest row that a row of the body has: narrower ones are a table's edge or arms."""


@dataclass(frozen=True)
class Sides:
    """Aerated lung on either side of the body's middle, ml, as the patient has them."""

    right_ml: float
    left_ml: float

    @property
    def is_one_sided(self) -> bool:
        """Whether one lung is almost missing."""
        small, large = sorted((self.right_ml, self.left_ml))
        return small < ONE_SIDED * large

    @property
    def smaller(self) -> str:
        """Name of the smaller lung, `right` or `left`."""
        return "right" if self.right_ml < self.left_ml else "left"


def lung_sides(coarse: Volume, lungs: Lungs, covered: Mask) -> Sides:
    """Return the volume of lung on either side of the middle of the body."""
    slices = np.flatnonzero(lungs.mask.any((1, 2)))
    edge = round(middle_x(coarse, covered, slices) + 0.5)
    return Sides(volume_ml(lungs.mask[..., :edge], coarse), volume_ml(lungs.mask[..., edge:], coarse))


@dataclass(frozen=True)
class Extent:
    """The chest of a coarse volume: from its lowest to its highest voxel along (z, y, x), and where lungs did not tell it.

    `is_one_sided`: one lung was mirrored. `is_shallow`: the body tells the depth. `is_flat`: the width tells the height.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    is_one_sided: bool
    is_shallow: bool
    is_flat: bool


def chest_extent(coarse: Volume, lungs: Lungs, covered: Mask) -> Extent:
    """Return the extent of a chest: the lungs, and if a part of them is opaque, what can be derived from the rest."""
    spans = [np.flatnonzero(lungs.mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    low = np.array([float(span[0]) for span in spans])
    high = np.array([float(span[-1]) for span in spans])
    one_sided = lung_sides(coarse, lungs, covered).is_one_sided
    if one_sided:
        middle = middle_x(coarse, covered, spans[0])
        low[2], high[2] = min(low[2], 2 * middle - high[2]), max(high[2], 2 * middle - low[2])
    shallow = _deepen(coarse, lungs, covered, low, high)
    dz, _, dx = coarse.spacing_mm
    width = (high[2] - low[2] + 1) * dx
    height = (high[0] - low[0] + 1) * dz
    flat = height < FLAT * width and _is_within(coarse, lungs, covered, low[0], USUAL_HEIGHT * width)
    if flat:
        low[0] = high[0] + 1 - USUAL_HEIGHT * width / dz
    return Extent(low, high, one_sided, shallow, flat)


def chest_box(coarse: Volume, lungs: Lungs, covered: Mask, margin_mm: float) -> Box:
    """Return the chest's box with a margin, within the volume; its axes are the patient's, not the volume's."""
    extent = chest_extent(coarse, lungs, covered)
    places = np.argwhere(lungs.mask).astype(float)
    if extent.is_one_sided:
        places = np.concatenate([places, places * (1, 1, -1) + (0, 0, extent.low[2] + extent.high[2])])
    middle = places.mean(0)
    for axis in range(3):
        for end in (extent.low, extent.high):
            place = middle.copy()
            place[axis] = end[axis]
            places = np.concatenate([places, place[None]])
    affine = coarse.affine
    points = places @ affine[:3, :3].T + affine[:3, 3]
    half = np.abs(affine[:3, :3]).sum(1) / 2
    low, high = (points.min(0) - half).tolist(), (points.max(0) + half).tolist()
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])).grown(margin_mm).within(box_of(coarse))


def _deepen(coarse: Volume, lungs: Lungs, covered: Mask, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
    """Move the end of the depth if the chest's wall seems far too thick; return whether it did."""
    body = ((coarse.hu > LUNG_HU) & covered) | lungs.mask
    slices = np.flatnonzero(lungs.mask.any((1, 2)))
    spans = [
        span
        for number in slices[len(slices) // 4 : max(3 * len(slices) // 4, len(slices) // 4 + 1)]
        if (span := _depths(body[number], lungs.mask[number])) is not None
    ]
    if not spans:
        return False
    front, first, last, back = np.median(spans, axis=0)
    if last - first >= SHALLOW * (back - front):
        return False
    thinnest = THINNEST_WALL_MM / coarse.spacing_mm[1]
    before, behind = first - front, back - last
    if behind > before:
        high[1] = max(high[1], back - max(before, thinnest))
    else:
        low[1] = min(low[1], front + max(behind, thinnest))
    return True


def _depths(body: Mask, lung: Mask) -> tuple[int, int, int, int] | None:
    """Return, in a slice [H, W], the rows where the body begins, the lungs begin, the lungs end, the body ends."""
    rows = body.sum(1)
    wide = rows > BODY_WIDTH * rows.max()
    of_lung = np.flatnonzero(lung.any(1))
    if not of_lung.size:
        return None
    first, last = int(of_lung[0]), int(of_lung[-1])
    front, back = (first + last) // 2, (first + last) // 2
    while front > 0 and wide[front - 1]:
        front -= 1
    while back < len(wide) - 1 and wide[back + 1]:
        back += 1
    return min(front, first), first, last, max(back, last)


def _is_within(coarse: Volume, lungs: Lungs, covered: Mask, bottom: float, height_mm: float) -> bool:
    """Return whether the scan extends below the lungs by a tenth of a chest's height, and holds their tops."""
    below = covered[: int(bottom)].any((1, 2)).sum() * coarse.spacing_mm[0]
    beyond = np.concatenate([~covered[1:], np.ones_like(covered[:1])])
    top_cm2 = float((lungs.mask & beyond).any(0).sum() * np.prod(coarse.spacing_mm[1:])) / 100
    return bool(below > height_mm / 10 and top_cm2 < LARGEST_TOP_CM2)
