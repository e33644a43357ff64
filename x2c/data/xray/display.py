"""The greys of a DICOM picture by the display transformations in its header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.data.volume import Array
from x2c.data.xray.blank import Mask
from x2c.data.xray.shown import Shown, clipped

UNWINDOWED = (0.005, 0.995)
"""Quantiles shown as black and white if a file has no display instructions, or none that can be followed."""
LEAST_SHOWN = 0.01
"""Standard deviation of the greys in [0, 1] that a window or table has to show."""


def displayed(values: NDArray[Any], valid: Mask, dataset: Any) -> Shown:
    """Greys [h, w] of values after the modality transformation, in the sense of MONOCHROME2; black where not valid.

    VOI LUT, window (PS3.3 C.11.2), then Photometric Interpretation and Presentation LUT Shape (C.11.6), of which INVERSE
    and MONOCHROME1 say the same (C.8.11.3.1.2). A table or window that is broken, unknown or shows one flat grey is left
    out with a warning; without any, quantiles of the valid pixels are black and white.
    """
    failed: list[str] = []
    grey = _instructed(values, valid, dataset, failed)
    if grey is None:
        grey = _between_quantiles(values, valid)
    inverse = "INVERSE" in (str(dataset.get("PresentationLUTShape") or "").upper(), _inverse(dataset))
    shown = clipped(1 - grey if inverse else grey)
    shown[~valid] = 0
    return Shown(shown, [("warning", f"its {name} cannot be followed: displayed without it") for name in failed])


def _inverse(dataset: Any) -> str:
    return "INVERSE" if dataset.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def _instructed(values: NDArray[Any], valid: Mask, dataset: Any, failed: list[str]) -> Array | None:
    """Greys by the first instruction that can be followed; the names of those that cannot are added to `failed`."""
    ways: dict[str, Callable[[NDArray[Any], Any], Array | None]] = {"VOI LUT": _by_table, "window": _by_window}
    for name, way in ways.items():
        try:
            grey = way(values, dataset)
        except Exception:  # a broken header can hold anything
            failed.append(name)
            continue
        if grey is None:
            continue
        if np.isfinite(grey).all() and np.clip(grey[valid], 0, 1).std() >= LEAST_SHOWN:
            return grey
        failed.append(name)
    return None


def _by_table(values: NDArray[Any], dataset: Any) -> Array | None:
    if not dataset.get("VOILUTSequence"):
        return None
    table, first = _lookup_table(dataset.VOILUTSequence[0])
    shown = table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]
    return _scaled(shown, float(table.min()), float(table.max()))


def _by_window(values: NDArray[Any], dataset: Any) -> Array | None:
    from pydicom.pixels.processing import apply_windowing

    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    with np.errstate(over="ignore"):  # of the sigmoid's exponential, far outside its window
        black, white = apply_windowing(np.array([-1e9, 1e9]), dataset)
        return _scaled(apply_windowing(values, dataset), float(black), float(white))


def _between_quantiles(values: NDArray[Any], valid: Mask) -> Array:
    black, white = np.quantile(values[valid], UNWINDOWED) if valid.any() else (0.0, 1.0)
    return _scaled(values, float(black), float(white))


def _scaled(values: NDArray[Any], black: float, white: float) -> Array:
    return (values - black) / ((white - black) or 1.0)


def _lookup_table(item: Any) -> tuple[NDArray[np.int64], int]:
    """A LUT's entries and the value that the first one is for. (pydicom's own wraps 12-bit values at 8-bit entries.)

    Raises ValueError for one with fewer entries than its descriptor says.
    """
    count, first, _ = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) == count else "<u2")
    entries = np.asarray(data, np.int64)[:count]
    if len(entries) < count:
        raise ValueError("the table is cut off")
    return entries, first
