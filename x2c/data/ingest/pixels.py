"""The stored pixels of a DICOM file, by whichever decoder has its compression."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from x2c.data.ingest.quiet import silent_stderr

PIXEL_MODULE = (
    *("SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "PlanarConfiguration", "Rows"),
    *("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
)


def stored_pixels(dataset: Any) -> NDArray[Any]:
    """A single-frame dataset's pixels [h, w] or [h, w, RGB] as they are stored, before any rescale or LUT.

    pydicom decodes what it can, SimpleITK's GDCM the rest: it has the lossless JPEG of most detectors and scanners. A
    broken dataset can make either raise anything, and what they say may quote the header: show no more than its class.
    Raises ValueError for several frames in a compression that pydicom does not have.
    """
    try:
        pixels: NDArray[Any] = dataset.pixel_array
        return pixels
    except (RuntimeError, NotImplementedError):  # no decoder for this compression
        return _decoded_by_gdcm(dataset)


def _decoded_by_gdcm(dataset: Any) -> NDArray[Any]:
    """GDCM would also rescale and invert MONOCHROME1, so it gets to see the pixels and nothing else."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset

    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ValueError("expected one frame; got several; export them one by one")
    bare = Dataset()
    bare.file_meta = dataset.file_meta
    for name in PIXEL_MODULE:
        if name in dataset:
            bare[name] = dataset[name]
    bare.PhotometricInterpretation = (
        "MONOCHROME2" if dataset.SamplesPerPixel == 1 else dataset.PhotometricInterpretation
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        # GDCM's warnings and its codecs' noise go to the error stream.
        with silent_stderr():
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
            pixels: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(path))[0]
            return pixels
