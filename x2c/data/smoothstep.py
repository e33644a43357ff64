"""A smooth way from 0 to 1, with which phantom and atlas let one tissue or motion pass into another."""

from __future__ import annotations

import numpy as np

from x2c.data.volume import Array


def smoothstep(value: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(value, 0, 1)
    return t * t * (3 - 2 * t)
