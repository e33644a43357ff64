"""CT volumes in single files: NIfTI by nibabel, NRRD and MetaImage by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from x2c.core.errors import FileError
from x2c.data.ingest.nifti import NO_ORIENTATION, read_nifti
from x2c.data.ingest.nifti import SUFFIXES as NIFTI_SUFFIXES
from x2c.data.ingest.quiet import silent_stderr
from x2c.data.ingest.scan import DAMAGED, Scan, grey_volume

SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is a volume this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path) -> Scan:
    """The CT in a NIfTI, NRRD or MetaImage file, in HU and as it lies in the file (see `preprocess.upright`).

    Raises FileError for what is not one whole three-dimensional grey image with a right-angled grid of finite numbers.
    """
    if not path.is_file():
        raise FileError(path, "there is no such file")
    return read_nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _read_itk(path)


def _read_itk(path: Path) -> Scan:
    import SimpleITK as sitk

    # Its warnings quote paths and headers, on the error stream.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    is_meta = path.suffix.lower() in (".mha", ".mhd")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # By itself it knows a MetaImage by a name in small letters only.
    reader.SetImageIO("MetaImageIO" if is_meta else "NrrdImageIO")
    try:
        with silent_stderr():
            reader.ReadImageInformation()
    except RuntimeError:
        raise FileError(path, "not a volume that can be read (NIfTI, NRRD or MetaImage)") from None
    size = reader.GetSize()
    if reader.GetNumberOfComponents() > 1:
        raise FileError(path, f"expected a grey volume; every voxel has {reader.GetNumberOfComponents()} values (RGB?)")
    if len(size) != 3:
        raise FileError(path, f"expected three dimensions; it has {len(size)} ({' × '.join(map(str, size))})")
    if min(reader.GetSpacing()) <= 0:
        raise FileError(path, "a voxel size is zero or negative; repair the header")
    try:
        with silent_stderr():
            image = reader.Execute()
    except RuntimeError:
        raise FileError(path, DAMAGED) from None
    # LPS reversed is superior, posterior, left.
    direction = np.array(image.GetDirection()).reshape(3, 3)[::-1, ::-1]
    axes = direction * np.array(image.GetSpacing())[::-1]
    volume = grey_volume(path, sitk.GetArrayFromImage(image), axes, np.array(image.GetOrigin())[::-1])
    says_how_it_lies = is_meta or reader.HasMetaDataKey("NRRD_space")
    return Scan(volume, () if says_how_it_lies else (NO_ORIENTATION,))
