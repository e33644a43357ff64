"""Pixels of a DICOM picture that show no patient, by its header: padding, and what lies behind the shutter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.data.remark import Remark
from x2c.data.xray.margins import LEAST_LEFT

Mask = NDArray[np.bool_]
IGNORED: Remark = (
    "warning",
    "the shutter in the header would cover nearly all of the picture or makes no sense: left out",
)


def valid_pixels(stored: NDArray[Any], dataset: Any) -> tuple[Mask, list[Remark]]:
    """The pixels of a picture [h, w(, RGB)] of stored values that are neither padding nor behind a shutter.

    PS3.3 C.7.5.1.1.2 (PixelPaddingValue and its range) and C.7.6.11 (display shutter). Padding counts where it reaches
    the border, since a saturated pixel inside may have its value. A shutter that cannot be is left out with a warning.
    """
    valid = np.ones(stored.shape[:2], bool)
    if stored.ndim == 2:
        valid &= ~_padding(stored, dataset)
    shapes = _words(dataset.get("ShutterShape"))
    if not shapes:
        return valid, []
    try:
        opening = _opening(valid.shape, shapes, dataset)
    except Exception:  # a broken header can hold anything
        return valid, [IGNORED]
    rows, columns = opening.any(1).mean(), opening.any(0).mean()
    if min(rows, columns) < LEAST_LEFT:
        return valid, [IGNORED]
    return valid & opening, []


def _padding(stored: NDArray[Any], dataset: Any) -> Mask:
    try:
        ends = [int(dataset[name].value) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit") if name in dataset]
    except (TypeError, ValueError):
        ends = []
    if "PixelPaddingValue" not in dataset or not ends:
        return np.zeros(stored.shape, bool)
    padded: Mask = (stored >= min(ends)) & (stored <= max(ends))
    labels, count = ndimage.label(padded)
    outer = np.unique(np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1])))
    reaches = np.zeros(count + 1, bool)
    reaches[outer[outer > 0]] = True
    outside: Mask = reaches[labels]
    return outside


def _opening(shape: tuple[int, ...], shapes: list[str], dataset: Any) -> Mask:
    """The pixels that no shutter covers; places are counted from 1, row before column."""
    row, column = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    opening = np.ones(shape, bool)
    if "RECTANGULAR" in shapes:
        opening &= (column >= int(dataset.ShutterLeftVerticalEdge)) & (column <= int(dataset.ShutterRightVerticalEdge))
        opening &= (row >= int(dataset.ShutterUpperHorizontalEdge)) & (row <= int(dataset.ShutterLowerHorizontalEdge))
    if "CIRCULAR" in shapes:
        down, along = (int(number) for number in dataset.CenterOfCircularShutter)
        opening &= (row - down) ** 2 + (column - along) ** 2 <= int(dataset.RadiusOfCircularShutter) ** 2
    if "POLYGONAL" in shapes:
        from PIL import Image, ImageDraw

        numbers = [int(number) for number in dataset.VerticesOfThePolygonalShutter]
        vertices = [(along - 1, down - 1) for down, along in zip(numbers[::2], numbers[1::2], strict=True)]
        drawn = Image.new("1", (shape[1], shape[0]))
        ImageDraw.Draw(drawn).polygon(vertices, fill=1, outline=1)
        opening &= np.asarray(drawn)
    return opening


def _words(value: Any) -> list[str]:
    words = [value] if isinstance(value, str) else list(value or ())
    return [word for word in words if word]
