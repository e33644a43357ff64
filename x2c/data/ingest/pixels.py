"""The stored pixels of a DICOM file, by whichever decoder has its compression."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

PIXEL_MODULE = ("SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "PlanarConfiguration", "Rows")
PIXEL_MODULE += ("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData")


def stored_pixels(dataset: Any) -> NDArray[Any]:
    """A single-frame dataset's pixels [h, w] or [h, w, RGB] as they are stored, before any rescale or LUT.

    pydicom decodes what it can, SimpleITK's GDCM the rest: it has the lossless JPEG of most detectors and scanners. A
    broken dataset can make either raise anything, and what they say may quote the header: show no more than its class.
    """
    try:
        return dataset.pixel_array
    except (RuntimeError, NotImplementedError):  # no decoder for this compression
        return _decoded_by_gdcm(dataset)


def _decoded_by_gdcm(dataset: Any) -> NDArray[Any]:
    """GDCM would also rescale and invert MONOCHROME1, so it gets to see the pixels and nothing else."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset

    bare = Dataset()
    bare.file_meta = dataset.file_meta
    for name in PIXEL_MODULE:
        if name in dataset:
            bare[name] = dataset[name]
    bare.PhotometricInterpretation = (
        "MONOCHROME2" if dataset.SamplesPerPixel == 1 else dataset.PhotometricInterpretation
    )
    # Its warnings go to the error stream.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(path))[0]
