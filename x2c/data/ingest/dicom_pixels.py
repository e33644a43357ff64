"""Hounsfield units of CT slices: each by its own rescale, padding apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.core.errors import FileError
from x2c.data.ingest.dicom_file import read_dataset
from x2c.data.ingest.dicom_header import Slice
from x2c.data.ingest.pixels import stored_pixels
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.volume import Array

PADDING_HU = -3024.0
"""The value of all pixels that a header calls padding: one constant below any HU, whatever the slice's rescale."""
DAMAGED = "a slice is damaged or cannot be decoded; copy the series again"


def slices_hu(folder: Path, slices: Sequence[Slice]) -> Iterator[Array]:
    """HU [H, W] float32 of each slice, in order. Raises FileError for a slice that cannot be read or decoded.

    A file with many frames is read once, as long as its frames follow one another.
    """
    for path, frames in itertools.groupby(slices, lambda one: one.header.path):
        dataset, stored = _read(folder, path)
        for one in frames:
            try:
                yield _hu(one, dataset, stored if one.frame is None else stored[one.frame])
            except (LookupError, TypeError, ValueError):
                raise FileError(folder, DAMAGED) from None


def _read(folder: Path, path: Path) -> tuple[Any, NDArray[Any]]:
    with quiet_parsers():
        try:
            dataset = read_dataset(path)
            pixels = dataset.pixel_array if int(dataset.get("NumberOfFrames") or 1) > 1 else stored_pixels(dataset)
        except OSError as error:
            if error.errno is None:
                raise FileError(folder, DAMAGED) from None
            raise FileError(folder, f"a slice cannot be read ({error.strerror})") from error
        except MemoryError:
            raise
        except Exception:  # a broken file can make the parser raise anything
            raise FileError(folder, DAMAGED) from None
    return dataset, pixels


def _hu(one: Slice, dataset: Any, stored: NDArray[Any]) -> Array:
    """HU of stored pixels [H, W]. A rescale slope that is empty is 1, an intercept that is empty is 0."""
    if stored.shape != one.shape:
        raise ValueError("another size than the header's")
    padding = _padding(dataset, stored)
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        hu = apply_modality_lut(stored, dataset).astype(np.float32)
    else:
        slope, intercept = one.number("RescaleSlope"), one.number("RescaleIntercept")
        hu = stored.astype(np.float32)
        if slope is not None and slope != 1:
            hu = (stored * np.float64(slope)).astype(np.float32)
        if intercept:
            hu += np.float32(intercept)
    if padding is not None:
        hu[padding] = PADDING_HU
    return hu


def _padding(dataset: Any, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Pixels at the border that PixelPaddingValue, or the range to PixelPaddingRangeLimit, calls padding; None without."""
    try:
        value = int(dataset.PixelPaddingValue)
        limit = int(dataset.get("PixelPaddingRangeLimit", value))
    except (AttributeError, TypeError, ValueError):
        return None
    bits = int(dataset.BitsAllocated)
    # Headers write a negative value as an unsigned one, and the other way round.
    low, high = sorted(_as_stored(number, bits, signed=stored.dtype.kind == "i") for number in (value, limit))
    padding = (stored >= low) & (stored <= high)
    if not padding.any():
        return None
    # Inside of the body, a value that is named for padding is tissue.
    pieces, _ = ndimage.label(padding)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return padding & np.isin(pieces, np.unique(rim[rim > 0]))


def _as_stored(number: int, bits: int, *, signed: bool) -> int:
    number %= 2**bits
    return number - 2**bits if signed and number >= 2 ** (bits - 1) else number
