"""CT volumes in single files: NIfTI by nibabel, NRRD and MetaImage by SimpleITK, X2CT's HDF5 by h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.hdf5 import SUFFIXES as HDF5_SUFFIXES
from x2c.data.ingest.hdf5 import read_x2ct_ct
from x2c.data.ingest.nifti import NO_ORIENTATION, read_nifti
from x2c.data.ingest.nifti import SUFFIXES as NIFTI_SUFFIXES
from x2c.data.ingest.quiet import silent_stderr
from x2c.data.ingest.scan import DAMAGED, CtHeader, Scan, check_readable, grey_volume

META_SUFFIXES = (".mha", ".mhd")
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", *META_SUFFIXES, *HDF5_SUFFIXES)
META_DIRECTIONS = {b"TransformMatrix", b"Rotation", b"Orientation"}
"""Keys of a MetaImage's header of which any gives the patient's orientation."""
LONGEST_HEADER = 2**16
"""Bytes of a MetaImage's header that are searched."""
LETTERS = np.array([["R", "L"], ["A", "P"], ["I", "S"]])
"""Letters of the beginning and end of LPS axes; a MetaImage's AnatomicalOrientation names where its axes begin."""


def is_image(path: Path) -> bool:
    """Return whether a file's name says that it is a volume this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path, header: CtHeader | None = None) -> Scan:
    """The CT in a NIfTI, NRRD, MetaImage or X2CT's HDF5 file, in HU and as it lies in the file (`preprocess.upright`).

    `header` has values from a table for a NIfTI whose own header is blank. Raises FileError for what is not one whole
    three-dimensional grey image with a right-angled grid of finite numbers; where the machine could not read the file,
    with the OSError as its cause.
    """
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path, header)
    return read_x2ct_ct(path) if name.endswith(HDF5_SUFFIXES) else _read_itk(path)


def _read_itk(path: Path) -> Scan:
    import SimpleITK as sitk

    check_readable(path)
    # Its warnings quote paths and headers, on the error stream.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    is_meta = path.suffix.lower() in META_SUFFIXES
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
    if is_meta:
        return Scan(volume, _meta_remarks(_meta_header(path), direction))
    return Scan(volume, () if reader.HasMetaDataKey("NRRD_space") else (NO_ORIENTATION,))


def _meta_header(path: Path) -> dict[bytes, bytes]:
    """A MetaImage's header, which ITK's reader does not pass on. In an .mha pixels follow it, in any bytes."""
    with path.open("rb") as stream:
        lines = stream.read(LONGEST_HEADER).split(b"\n")
    header: dict[bytes, bytes] = {}
    for line in lines:
        key, _, value = line.partition(b"=")
        header[key.strip()] = value.strip()
        if b"ElementDataFile" in header:
            break
    return header


def _meta_remarks(header: dict[bytes, bytes], direction: NDArray[Any]) -> tuple[str, ...]:
    """Return remarks on the patient's orientation, given the direction [3, 3] (z, y, x) that ITK made of the header."""
    if not META_DIRECTIONS & header.keys():
        return (NO_ORIENTATION,)
    # Back to (x, y, z): columns are the array's axes in LPS.
    columns = direction[::-1, ::-1].T
    main = [int(np.argmax(np.abs(column))) for column in columns]
    begins = "".join(LETTERS[axis, int(column[axis] < 0)] for axis, column in zip(main, columns, strict=True))
    said = header.get(b"AnatomicalOrientation", b"").decode("ascii", "replace").upper()
    if len(said) == len(begins) and set(said) <= set(LETTERS.ravel()) and said != begins:
        return ("AnatomicalOrientation contradicts TransformMatrix; TransformMatrix was used, as ITK does",)
    return ()
