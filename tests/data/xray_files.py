"""DICOM radiographs that tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

RAMP = np.add.outer(np.arange(80) * 16, np.arange(80) * 35)
"""0..4029: nearly all of 12 bits."""


def write_dicom(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """A computed radiograph, 12 bits in 16, unless `tags` say otherwise; None leaves a tag out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": generate_uid(),
        "Modality": "CR",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        **tags,
    }
    with disable_value_validation():
        for name, value in values.items():
            if value is not None:
                setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("u1" if values["BitsAllocated"] == 8 else "<u2").tobytes()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def lookup_table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item
