"""Recognition of frontal, upright chest radiographs with bright bones, by their likeness to a sketch of one."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from x2c.data.remark import Remark
from x2c.data.volume import Array

FRONTAL = 0.6
"""The least likeness of a frontal chest. Measured: two real X-rays .77 and .83, projections of a real CT in 13 poses .81
to .86, 66 phantoms .66 (an opaque lung) to .88 and their median .79; lateral projections of the same CT up to .47, its
axial slices up to .57, noise blurred to a dozen blobs up to .51; three or four blobs may pass."""
TURNED = 0.05
"""Likeness by which another orientation has to fit better than the picture as it is. Measured: of the same pictures, upright ones
fit at least .16 better than on their heads, but one phantom of 66 only .06."""
FLAT = 0.03
"""Standard deviation up to which an outer row or column is a margin, with no patient in it."""
LEAST_RANGE = 0.1
"""Contrast between the 5 % and 95 % quantiles of a picture that shows something."""
LEAST_GREYS = 16
"""Fewest greys. A radiograph of 8 bits has some two hundred; scans in black and white, and drawings, have few."""
LARGEST = 192
"""Pixels across at which pictures are compared: more show nothing that the sketch does."""
SKETCH_SIZE = 40
SCALES = (0.62, 0.7, 0.78, 0.86, 0.95, 1.05)
"""Sides of the sketch, from the apices to below the diaphragm, in sides of the picture without its margins."""
SHIFT = 0.12
"""Largest distance of the sketch's middle from the picture's, in its sides."""
OVERHANG = 4
"""Pixels of the sketch that may lie outside of a picture that is cut close to the lungs."""


def frontal_likeness(xray: Array) -> float:
    """Return the correlation, -1 to 1, of a picture [n, n] with the sketch of a frontal chest at its best fit.

    Brightness, contrast and margins do not change it, and exposure, crop, a lean of 10° and noise only a little.
    """
    picture = _without_margins(_resized(xray, min(len(xray), LARGEST)))
    return max(_best_match(picture, scale) for scale in SCALES)


def xray_remarks(xray: Array) -> list[Remark]:
    """Return remarks on a radiograph [n, n] in [0, 1]: none, a warning, or why it should be left out.

    Left out is an inverted picture, and one of black and white. The rest may be what a patient looks like: a lung that
    is all opaque, say. A picture mirrored left for right is not noticed.
    """
    greys = len(np.unique(xray))
    xray = _resized(xray, min(len(xray), LARGEST))
    low, high = np.quantile(xray, (0.05, 0.95))
    if high - low < LEAST_RANGE:
        return [("warning", f"nearly blank: most of it lies within {high - low:.2f} of the range of greys")]
    if greys < LEAST_GREYS:
        return [("excluded", f"has {greys} shades of grey; export it with 8 bits or more")]
    as_it_is, inverted = frontal_likeness(xray), frontal_likeness(1 - xray)
    overhead, *on_a_side = (frontal_likeness(np.rot90(xray, turns)) for turns in (2, 1, 3))
    needed = max(FRONTAL, as_it_is + TURNED)
    if inverted >= needed:
        return [("excluded", "looks inverted: lungs are bright; export it as MONOCHROME2")]
    if max(on_a_side) >= needed:
        return [("warning", "looks as if it lay on its side; turn it upright")]
    if overhead >= needed:
        return [("warning", "looks upside down; turn it upright")]
    if as_it_is < FRONTAL:
        text = f"does not look like a frontal chest X-ray (likeness {as_it_is:.2f}, expected {FRONTAL} or more)"
        return [("warning", f"{text}: a lateral view or another part of the body?")]
    return []


@cache
def _sketch() -> Array:
    """Return the sketch [SKETCH_SIZE, SKETCH_SIZE], of mean 0: lungs, mediastinum, heart on the left, wall, abdomen."""
    middles = (np.arange(SKETCH_SIZE) + 0.5) / SKETCH_SIZE * 2 - 1
    down, across = np.meshgrid(middles, middles, indexing="ij")
    aside = np.abs(across)
    # Lungs taper towards the apex and end on the domes of the diaphragm.
    wall = 0.86 * (1 - np.clip((0.7 - down) / 1.58, 0, 1) ** 4)
    dome = 0.5 + 0.9 * (aside - 0.45) ** 2
    lungs = _within(aside - wall) * _within(0.13 - aside) * _within(down - dome)
    heart = _within(np.hypot((across - 0.16) / 0.36, (down - 0.3) / 0.42) - 1, 0.1)
    abdomen, mediastinum = _within(0.6 - down), _within(aside - 0.13)
    sketch: Array = 0.15 * abdomen + 0.4 * mediastinum + 0.12 * heart - 0.6 * lungs * (1 - 0.8 * heart)
    sketch -= sketch.mean()
    return sketch


def _within(distance: Array, edge: float = 0.05) -> Array:
    """Return 1 where a signed distance is negative, 0 where it is positive, over a soft edge."""
    share: Array = 1 / (1 + np.exp(np.clip(distance / edge, -50, 50)))
    return share


def _best_match(picture: Array, scale: float) -> float:
    """Return the highest correlation with the sketch, at `scale` times the picture's size, near its middle."""
    size = round(SKETCH_SIZE / scale)
    places = size + 2 * OVERHANG - SKETCH_SIZE
    spare = max(0, int(places / 2 - np.ceil(SHIFT * size)))
    near = np.pad(_resized(picture, size), OVERHANG, mode="edge")[spare : size + 2 * OVERHANG - spare]
    near = near[:, spare : near.shape[1] - spare]
    windows = np.lib.stride_tricks.sliding_window_view(near, (SKETCH_SIZE, SKETCH_SIZE))
    sketch = _sketch().ravel()
    # A row for each place.
    centred = windows.reshape(-1, sketch.size)
    centred = centred - centred.mean(1, keepdims=True)
    norms = np.sqrt(np.einsum("pi,pi->p", centred, centred) * (sketch**2).sum())
    return float((centred @ sketch.astype(centred.dtype) / np.maximum(norms, 1e-6)).max())


def _resized(picture: Array, size: int) -> Array:
    """Return the picture at [size, size], by averages."""
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize((size, size), Image.Resampling.BOX))


def _without_margins(xray: Array) -> Array:
    """Return the smallest square that holds every row and column with something in it."""
    spans = []
    for lines in (xray, xray.T):
        busy = np.flatnonzero(lines.std(axis=1) > FLAT)
        spans.append((int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, len(xray)))
    side = max(end - start for start, end in spans)
    top, left = (min(max((start + end - side) // 2, 0), len(xray) - side) for start, end in spans)
    return xray[top : top + side, left : left + side]
