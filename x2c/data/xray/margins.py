"""Removal of margins from a picture: padding, shutters, collimator borders and the page around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.data.remark import Remark
from x2c.data.xray.shown import Margins

Box = tuple[slice, slice]
"""Rows and columns of a picture."""
EVEN = 0.01
"""Share of the picture's range by which a margin may differ from the value at the border: noise of a lossy JPEG."""
RANGE = (0.005, 0.995)
"""Quantiles that the range lies between, so that a lead letter does not widen it."""
THINNEST = 0.01
"""Share of a side below which an even band is none; at least `FEWEST` lines."""
FEWEST = 2
NESTED = 3
"""Margins inside of each other that are looked for: a page, a frame, a collimator."""
LEAST_VALID = 0.5
"""Share of a line's pixels that have to be valid for it to be even."""
NOTED = 0.5
"""Share of a picture left without its margins below which a report mentions them: most X-rays have narrow ones."""
LEAST_LEFT = 0.2
"""Share of either side that a picture fills at least. Where less would be left, the margins are the picture."""


def content_box(values: NDArray[Any], valid: NDArray[np.bool_]) -> Box:
    """The smallest box with everything of a picture [h, w] in it but its even margins.

    A margin is made of whole outer rows or columns whose valid pixels all have nearly the value that they have at the
    border; rows and columns without valid pixels belong to it. A border that is dark but shows something stays.
    """
    low, high = np.quantile(values[valid], RANGE) if valid.any() else (0.0, 0.0)
    tolerance = EVEN * float(high - low)
    (top, left), (bottom, right) = (0, 0), values.shape
    for _ in range(NESTED):
        before = (top, bottom, left, right)
        box = slice(top, bottom), slice(left, right)
        above, below = _margins(values[box], valid[box], tolerance)
        top, bottom = top + above, bottom - below
        box = slice(top, bottom), slice(left, right)
        before_left, after_right = _margins(values[box].T, valid[box].T, tolerance)
        left, right = left + before_left, right - after_right
        if before == (top, bottom, left, right):
            break
    height, width = values.shape
    if bottom - top < LEAST_LEFT * height or right - left < LEAST_LEFT * width:
        return slice(0, height), slice(0, width)
    return slice(top, bottom), slice(left, right)


def margins_of(box: Box, shape: tuple[int, ...]) -> Margins:
    """Return the lines of a picture of that shape that lie outside of a box: above, left, below, right."""
    rows, columns = box
    return rows.start, columns.start, shape[0] - rows.stop, shape[1] - columns.stop


def margin_remarks(box: Box, shape: tuple[int, ...]) -> list[Remark]:
    """Return a note, if the margins of a picture of that shape are larger than what is left of it."""
    rows, columns = (part.stop - part.start for part in box)
    if rows * columns >= NOTED * shape[0] * shape[1]:
        return []
    text = f"margins that show nothing were taken away: {rows} × {columns} of {shape[0]} × {shape[1]} pixels are left"
    return [("note", text)]


def _margins(values: NDArray[Any], valid: NDArray[np.bool_], tolerance: float) -> tuple[int, int]:
    """The numbers of first and of last rows that are margin."""
    if not valid.any():
        return 0, len(values)
    lows = np.where(valid, values, np.inf).min(1)
    highs = np.where(valid, values, -np.inf).max(1)
    # The corners of a slanted or round picture have rows of a few pixels, which are always even.
    full = valid.mean(1) >= LEAST_VALID
    return _margin(lows, highs, full, tolerance), _margin(lows[::-1], highs[::-1], full[::-1], tolerance)


def _margin(lows: NDArray[Any], highs: NDArray[Any], full: NDArray[np.bool_], tolerance: float) -> int:
    """Return the number of lines from the outside in that are margin, by each one's lowest and highest valid value."""
    without = _leading(lows > highs)
    border = (lows[without] + highs[without]) / 2
    even = full & (np.abs(lows - border) <= tolerance) & (np.abs(highs - border) <= tolerance)
    band = _leading(even[without:])
    return without + band if band >= max(FEWEST, THINNEST * len(lows)) else without


def _leading(flags: NDArray[np.bool_]) -> int:
    """Return the number of flags before the first that is not set."""
    return len(flags) if flags.all() else int(np.argmin(flags))
