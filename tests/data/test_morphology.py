"""Erosion and dilation against scipy.ndimage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from x2c.data.preprocess.morphology import CROSS, IN_PLANE, closed, dilated, eroded, opened


@pytest.mark.parametrize("structure", [CROSS, IN_PLANE], ids=["cross", "in plane"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_masks_are_those_of_scipy(structure, share, iterations):
    for shape in ((9, 12, 11), (1, 5, 2)):
        mask = np.random.default_rng(iterations).random(shape) < share
        for ours, theirs in (
            (eroded, ndimage.binary_erosion),
            (dilated, ndimage.binary_dilation),
            (opened, ndimage.binary_opening),
            (closed, ndimage.binary_closing),
        ):
            np.testing.assert_array_equal(ours(mask, structure, iterations), theirs(mask, structure, iterations))
        beyond = ndimage.binary_erosion(mask, structure, iterations, border_value=1)
        np.testing.assert_array_equal(eroded(mask, structure, iterations, outside=True), beyond)
