"""Volumes as NIfTI files, with the position and scale that viewers and toolkits need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.files import replacing

SUFFIX = ".nii.gz"
DESCRIPTION_BYTES = 79
"""NIfTI-1's `descrip` holds 80 with its closing zero."""


def affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """The matrix [4, 4] from voxels (w, h, d, 1) to mm (right, anterior, superior, 1), as NIfTI's readers give it of a file
    that `write_nifti` wrote; `shape` is (D, H, W), `spacing_mm` (z, y, x).
    """
    # NIfTI's axes point to the right and the front, those of the array to the left and the back.
    steps = np.array(spacing_mm[::-1], np.float64) * (-1, -1, 1)
    matrix = np.diag([*steps, 1.0])
    matrix[:3, 3] = -steps * (np.array(shape[::-1]) - 1) / 2
    return matrix


def write_nifti(path: Path, values: NDArray[Any], spacing_mm: tuple[float, float, float], description: str) -> None:
    """Write values [D, H, W], whole or not at all.

    D runs from inferior to superior, H from anterior to posterior, W from the patient's right to left: ITK's LPS, so
    that the direction is the identity; the volume's centre is the origin of the patient's coordinates. `spacing_mm` is
    (z, y, x). The values' dtype is kept; `description` goes into the header.
    """
    import SimpleITK as sitk

    if len(description.encode()) > DESCRIPTION_BYTES:
        raise ValueError(f"description: expected at most {DESCRIPTION_BYTES} bytes; got {description!r}; shorten it")
    image = sitk.GetImageFromArray(values)
    spacing = [float(mm) for mm in reversed(spacing_mm)]
    image.SetSpacing(spacing)
    image.SetOrigin([-(voxels - 1) / 2 * mm for voxels, mm in zip(image.GetSize(), spacing, strict=True)])
    # The name under which ITK's writer takes the header's `descrip`; it reads it back under both.
    image.SetMetaData("ITK_FileNotes", description)
    with replacing(path) as temporary:
        # SimpleITK knows a format by its suffix.
        suffixed = temporary.with_name(temporary.name + SUFFIX)
        try:
            sitk.WriteImage(image, suffixed, useCompression=True)
            suffixed.rename(temporary)
        finally:
            suffixed.unlink(missing_ok=True)
