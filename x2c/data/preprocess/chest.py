"""The box of a chest: of both lungs, and of the whole chest where only one of them can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data.preprocess.box import Box, box_of
from x2c.data.preprocess.lungs import Lungs, Mask, middle_x, volume_ml
from x2c.data.volume import Volume

ONE_SIDED = 0.25
"""Volume of the smaller lung in that of the larger one below which it is opaque, collapsed or missing. Squeezed by a heart
or a raised diaphragm, the smaller one has a half."""


@dataclass(frozen=True)
class Sides:
    """Aerated lung on either side of the body's middle, ml, as the patient has them."""

    right_ml: float
    left_ml: float

    @property
    def is_one_sided(self) -> bool:
        """Whether one lung is hardly there."""
        small, large = sorted((self.right_ml, self.left_ml))
        return small < ONE_SIDED * large

    @property
    def smaller(self) -> str:
        """`right` or `left`."""
        return "right" if self.right_ml < self.left_ml else "left"


def lung_sides(coarse: Volume, lungs: Lungs, covered: Mask) -> Sides:
    """The volume of lung on either side of the middle of the body."""
    slices = np.flatnonzero(lungs.mask.any((1, 2)))
    edge = round(middle_x(coarse, covered, slices) + 0.5)
    return Sides(volume_ml(lungs.mask[..., :edge], coarse), volume_ml(lungs.mask[..., edge:], coarse))


def chest_box(coarse: Volume, lungs: Lungs, covered: Mask, margin_mm: float) -> Box:
    """The lungs' box with a margin, within the volume; axes are the patient's, however the volume lies.

    Where one lung is opaque, collapsed or missing the other one stands for it, mirrored in the middle of the body.
    """
    places = np.argwhere(lungs.mask).astype(float)
    if lung_sides(coarse, lungs, covered).is_one_sided:
        middle = middle_x(coarse, covered, np.flatnonzero(lungs.mask.any((1, 2))))
        places = np.concatenate([places, places * (1, 1, -1) + (0, 0, 2 * middle)])
    affine = coarse.affine
    points = places @ affine[:3, :3].T + affine[:3, 3]
    half = np.abs(affine[:3, :3]).sum(1) / 2
    low, high = (points.min(0) - half).tolist(), (points.max(0) + half).tolist()
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])).grown(margin_mm).within(box_of(coarse))
