"""Reading of radiographs: PNG, JPEG, TIFF and DICOM.

What a file says of a patient stays in it: of a header, errors and remarks quote nothing but words of DICOM's own, and
never what another library says of a file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from x2c.core.errors import FileError, UserError
from x2c.data.ingest.dicom_file import looks_like_dicom
from x2c.data.remark import Remark
from x2c.data.views import frontal_of
from x2c.data.volume import Array
from x2c.data.xray.file import HDF5, Radiograph, read_file
from x2c.data.xray.picture import PICTURES

__all__ = ["Radiograph", "radiographs_in", "read_radiograph", "read_xray"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


def read_xray(path: Path) -> Radiograph:
    """A frontal chest radiograph as a reader sees it (MONOCHROME2), with remarks on its file.

    `path` is a file, or a folder with one or several pictures at any depth, of which the frontal is taken
    (`x2c.data.views.frontal_of`). Pictures are scaled by their bit depth, never stretched; DICOM is displayed by its own
    modality and VOI transformations (PS3.3 C.11.1, C.11.2) and turned to stand upright, the patient's left on the right.
    Padding, shutters and even margins are taken away first. What is not square is centred on a black square, so that the
    chest keeps its proportions.

    Raises FileError for a file that is no frontal radiograph or is broken. Where it cannot be opened, the error's
    `__cause__` is the OSError.
    """
    if not path.is_dir():
        return read_file(path)
    try:
        found = [file for file in sorted(path.rglob("*")) if _is_picture(file)]
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror}); give another folder") from error
    if not found:
        raise FileError(path, "expected a folder with a radiograph (PNG, JPEG, TIFF, DICOM); got none in it")
    try:
        taken = read_file(frontal_of(found))
    except FileError as error:
        raise FileError(path, error.reason) from error.__cause__
    if len(found) == 1:
        return taken
    note: Remark = ("note", f"{len(found)} pictures lie in the folder: the frontal one was taken")
    return replace(taken, remarks=(note, *taken.remarks))


def read_radiograph(path: Path) -> Array:
    """The picture of `read_xray`: a frontal chest radiograph [n, n] in [0, 1], float32, lung dark, bone bright."""
    return read_xray(path).picture


def radiographs_in(folder: Path) -> list[Path]:
    """The radiographs of a folder (not of its subfolders) by suffix, sorted by name. Raises UserError for none."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise UserError(
            f"{folder}: expected radiographs ({', '.join(SUFFIXES)}); none in this folder; give another or a file"
        )
    return found


def _is_picture(path: Path) -> bool:
    """Return whether a file's content begins as a picture does; hidden files are not pictures."""
    if path.name.startswith(".") or not path.is_file():
        return False
    with path.open("rb") as stream:
        begins = stream.read(8).startswith((HDF5, *PICTURES))
    return begins or looks_like_dicom(path)
