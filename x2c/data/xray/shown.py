"""A displayed picture on its way, with what there is to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from x2c.data.remark import Remark
from x2c.data.volume import Array

Margins = tuple[int, int, int, int]
NONE: Margins = (0, 0, 0, 0)


@dataclass(frozen=True)
class Shown:
    """Greys [h, w] in [0, 1], float32, remarks, and the lines taken away as margins: above, left, below, right."""

    grey: Array
    remarks: Sequence[Remark] = field(default_factory=tuple)
    margins: Margins = NONE


def clipped(grey: Array) -> Array:
    """Greys as float32 in [0, 1]."""
    return np.clip(grey, 0, 1).astype(np.float32)


def middle(grey: Array) -> Array:
    """The middle square [n, n] of a picture [h, w]."""
    side = min(grey.shape)
    top, left = ((length - side) // 2 for length in grey.shape)
    return grey[top : top + side, left : left + side]
