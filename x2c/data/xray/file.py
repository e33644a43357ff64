"""A radiograph from one file: PNG, JPEG, TIFF, DICOM, or the X-ray of an X2CT volume (HDF5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x2c.core.errors import FileError
from x2c.data.ingest.dicom_file import looks_like_dicom
from x2c.data.ingest.when import Moment
from x2c.data.remark import Remark
from x2c.data.volume import Array
from x2c.data.xray.dicom import read_dicom
from x2c.data.xray.picture import PICTURES, read_picture
from x2c.data.xray.shown import NONE, Margins, Shown

HDF5 = b"\x89HDF"
"""First bytes of an HDF5 file."""
LEAST_PIXELS = 64
"""Rows and columns of the smallest picture that is accepted, without its margins."""
LEAST_CONTRAST = 0.01
"""Standard deviation of a picture in [0, 1] below which it is as good as empty."""


@dataclass(frozen=True)
class Radiograph:
    """A frontal chest radiograph, and what its file says of it."""

    picture: Array
    """Picture [n, n] in [0, 1], float32: lung dark, bone bright."""
    remarks: tuple[Remark, ...] = ()
    """Remarks on view, orientation, display and margins, from file and header. They identify no one."""
    taken: Moment | None = None
    """Time at which it was taken, from its header."""
    person: str = ""
    """PatientID of a DICOM header. It identifies the patient: never shown, never written."""
    margins: Margins = NONE
    """Lines of the file's picture that were taken away as margins: above, left, below, right."""


def read_file(path: Path) -> Radiograph:
    """Return the radiograph of one file. Raises FileError as `x2c.data.readers.read_xray` does."""
    try:
        with path.open("rb") as stream:
            head = stream.read(max(len(start) for start in (HDF5, *PICTURES)))
        dicom = looks_like_dicom(path)
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); give a PNG, JPEG, TIFF or DICOM radiograph"
        raise FileError(path, reason) from error
    if dicom:
        found = read_dicom(path)
        picture, shown = _on_square(path, found.shown), found.shown
        return Radiograph(picture, tuple(shown.remarks), found.taken, found.person, shown.margins)
    if head.startswith(PICTURES):
        shown = read_picture(path)
        return Radiograph(_on_square(path, shown), tuple(shown.remarks), margins=shown.margins)
    if head.startswith(HDF5):
        from x2c.data.ingest.hdf5 import read_x2ct_xray

        return Radiograph(read_x2ct_xray(path))
    raise FileError(
        path,
        "expected a radiograph as PNG, JPEG, TIFF or DICOM; the file's content is none of them; "
        "export the X-ray as one, a CT volume will not do",
    )


def _on_square(path: Path, shown: Shown) -> Array:
    """Return the picture in the middle of a black square [n, n]. Raises FileError if too small or showing nothing."""
    grey = shown.grey
    if min(grey.shape) < LEAST_PIXELS:
        height, width = grey.shape
        raise FileError(
            path,
            f"expected at least {LEAST_PIXELS} × {LEAST_PIXELS} pixels; got {height} × {width}; "
            "give the full picture, not a thumbnail",
        )
    if grey.std() < LEAST_CONTRAST:
        raise FileError(path, "expected a radiograph; got one flat grey; export it again with its window")
    spare = [max(grey.shape) - length for length in grey.shape]
    return np.pad(grey, [(extra // 2, extra - extra // 2) for extra in spare])
