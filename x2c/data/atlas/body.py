"""The body in the atlas's CT, free of table and blanket, and continued to where the scanner saw no more.

The scanner's circle cuts the shoulders and its last slice the neck. What is added there is made up: nearby tissue,
drawn out and rounded off, so that a smaller patient or a larger picture shows a shoulder and a neck and no wall.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.data.volume import Array, Triple

Mask = NDArray[np.bool_]
AIR_HU, FAT_HU = -1000.0, -100.0
PADDING_HU = -2000
"""HU below which voxels of the file lie outside the scanner's circle."""
ABOVE_MM, BESIDE_MM = 60.0, 22.5
SHOULDER_MM = 20.0
"""Length of the shoulders beyond the scanner's circle."""
RIM_MM = 5.0


def find_body(hu: Array) -> Mask:
    """Return the patient in a CT [D, H, W], lungs included, without objects on, under or around."""
    solid = ndimage.binary_opening(hu > -400, np.ones((1, 5, 5)))
    parts, _ = ndimage.label(solid)
    largest = parts == np.bincount(parts[parts > 0]).argmax()
    filled = np.stack([ndimage.binary_fill_holes(part) for part in largest])
    # The skin's own partial volume belongs to it.
    body: Mask = ndimage.binary_dilation(filled, np.ones((1, 3, 3)))
    return body


def continued(hu: Array, seen: Mask, spacing: Triple) -> Array:
    """hu [D, H, W] with air around the body, padded by BESIDE_MM on the left and right and by ABOVE_MM on top.

    `seen` [D, H, W]: inside the scanner's circle.
    """
    body = find_body(np.where(seen, hu, AIR_HU))
    beside = round(BESIDE_MM / spacing[2])
    pad = ((0, 0), (0, 0), (beside, beside))
    hu, seen, body = np.pad(np.where(body, hu, AIR_HU), pad), np.pad(seen, pad), np.pad(body, pad)
    hu = _widened(hu, seen, body, spacing)
    return np.concatenate([hu, _neck(hu[-1], spacing)])


def _widened(hu: Array, seen: Mask, body: Mask, spacing: Triple) -> Array:
    """Return slices [D, H, W] whose shoulders continue beyond what was seen."""
    reach, drawn = np.empty_like(body), np.empty_like(hu)
    for number, (visible, inside, values) in enumerate(zip(seen, body, hu, strict=True)):
        # Most slices have the circle of the slice before.
        if number == 0 or not np.array_equal(visible, seen[number - 1]):
            distance, nearest = ndimage.distance_transform_edt(~visible, sampling=spacing[1:], return_indices=True)
        reach[number] = inside[tuple(nearest)] & (distance < SHOULDER_MM)
        # Bone that is drawn out would become a plate.
        drawn[number] = np.clip(values[tuple(nearest)], -120, 60)
    share = ndimage.gaussian_filter(reach.astype(np.float32), (2, 4, 4))
    made_up = _rimmed(ndimage.gaussian_filter(drawn, (2, 4, 4)), share > 0.5, spacing)
    return np.where(seen, hu, AIR_HU + np.clip(share * 3 - 1, 0, 1) * (made_up - AIR_HU)).astype(np.float32)


def _rimmed(hu: Array, body: Mask, spacing: Triple) -> Array:
    """Return tissue [D, H, W] with fat under the skin."""
    depth = np.stack([ndimage.distance_transform_edt(inside, sampling=spacing[1:]) for inside in body])
    return np.where(depth < RIM_MM, FAT_HU, hu)


def _neck(top: Array, spacing: Triple) -> Array:
    """Return slices above the last [H, W]: its middle continues as the neck, and its shoulders slope down to it."""
    count = round(ABOVE_MM / spacing[0])
    body = top > -500
    middle = np.array([rows.mean() for rows in np.nonzero(body)])
    y, x = ((np.arange(n) - at) * mm for n, at, mm in zip(top.shape, middle, spacing[1:], strict=True))
    half = np.array([np.ptp(np.flatnonzero(body.any(1 - axis))) * spacing[1 + axis] / 2 for axis in (0, 1)])
    neck = np.minimum(half, (72.0, 66.0))
    # Only the spine continues as bone.
    goes_on = np.where(np.abs(x) < 30, np.clip(top, -1000, 300), np.clip(top, -120, 60))
    share, drawn = [], []
    for number in range(1, count + 1):
        slope = np.sin(min(1.0, number / (0.75 * count)) * np.pi / 2)
        semi = half * 1.25 + (neck - half * 1.25) * slope
        edge = (1 - np.sqrt((y[:, None] / semi[0]) ** 2 + (x / semi[1]) ** 2)) * semi.min()
        share.append(np.clip(edge / spacing[1] + 0.5, 0, 1) * body)
        drawn.append(ndimage.gaussian_filter(goes_on, min(0.4 * number, 3.0)))
    covered = np.stack(share)
    made_up = _rimmed(np.stack(drawn), covered > 0.5, spacing)
    above: Array = (AIR_HU + covered * (made_up - AIR_HU)).astype(np.float32)
    return above
