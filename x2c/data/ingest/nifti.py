"""CT volumes in NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from x2c.core.errors import FileError
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.ingest.scan import DAMAGED, Scan, grey_volume

SUFFIXES = (".nii", ".nii.gz")
MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
NO_ORIENTATION = "the header does not say how the patient lies: right and left may be swapped"


def read_nifti(path: Path) -> Scan:
    """The CT in a NIfTI file, in HU and as it lies in the file (see `preprocess.upright`).

    ITK would pass off what is missing as zeros, NaN as 0 and a voxel size of 0 as 1 mm; nibabel does not. Raises
    FileError for what is not one whole three-dimensional grey image with a right-angled grid of finite numbers.
    """
    import nibabel as nib

    try:
        with quiet_parsers(), nib.openers.Opener(path) as stream:
            image: Any = nib.load(path)
            # As it stands in the file: loading mends what it can, and says so in the log only.
            header = type(image.header).from_fileobj(stream, check=False)
        sizes, codes = header["pixdim"][1:4], (int(header["qform_code"]), int(header["sform_code"]))
        unit = MM[header.get_xyzt_units()[0]]
    except Exception:  # a broken header can make the parser raise anything
        raise FileError(path, "not a NIfTI image that can be read") from None
    if header.get_data_dtype().fields:
        raise FileError(path, "expected a grey volume; every voxel has several values (RGB?)")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise FileError(path, f"expected three dimensions; it has {len(shape)} ({' × '.join(map(str, shape))})")
    if not (sizes > 0).all():
        raise FileError(path, "a voxel size is zero or negative; repair the header")
    try:
        values = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape, order="F")
    except Exception:
        raise FileError(path, DAMAGED) from None
    # RAS, (x, y, z), to superior, posterior, left.
    affine = np.diag([1.0, -1.0, -1.0]) @ image.affine[2::-1] * unit
    volume = grey_volume(path, values.T, affine[:, 2::-1], affine[:, 3])
    return Scan(volume, () if any(codes) else (NO_ORIENTATION,))
