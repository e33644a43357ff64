"""CT volumes in NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.ingest.scan import DAMAGED, CtHeader, Scan, check_readable, give_up, grey_volume
from x2c.data.volume import Array

SUFFIXES = (".nii", ".nii.gz")
MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
NO_ORIENTATION = "the header does not say how the patient lies: right and left may be swapped"
BASIS = np.diag([1.0, -1.0, -1.0])[:, ::-1]
"""Matrix from NIfTI's space (right, anterior, superior) to ours (superior, posterior, left)."""
SIDES = ("left and right", "front and back", "top and bottom")
"""Ends of NIfTI's axes x, y and z."""
SAME_WAY = 0.7
"""Cosine between an axis by qform and by sform below which they run different ways: 45°. Rotations of a registration,
and tables that were turned, are smaller; a mirror has −1, exchanged axes 0."""
SAME_SIZE = 0.01
"""Share by which a voxel size may differ between qform and sform."""


def read_nifti(path: Path, header: CtHeader | None = None) -> Scan:
    """The CT in a NIfTI file, in HU and as it lies in the file (see `preprocess.upright`).

    Values of `header`, from a table, replace those of a blank header: one without qform and sform, or with voxels of 1 mm
    along all axes and no rescale (slope 0 or 1). A rescale of the file's own is kept. Where qform and sform differ a
    little, the sform is taken (nifti1.h, method 3).

    ITK would pass off what is missing as zeros, NaN as 0 and a voxel size of 0 as 1 mm; nibabel does not. Raises
    FileError for what is not one whole three-dimensional grey image with a right-angled grid of finite numbers, and for
    qform and sform of which one mirrors the other or exchanges its axes; where the machine could not read the file, with
    the OSError as its cause.
    """
    import nibabel as nib

    check_readable(path)
    try:
        with quiet_parsers(), nib.openers.Opener(str(path)) as stream:
            image: Any = nib.load(path)
            # The header as it is in the file: loading corrects what it can, and reports it only in the log.
            raw = type(image.header).from_fileobj(stream, check=False)
        sizes, codes = raw["pixdim"][1:4], (int(raw["qform_code"]), int(raw["sform_code"]))
        unit = MM[raw.get_xyzt_units()[0]]
    except Exception as error:  # a broken header can make the parser raise anything
        give_up(path, error, "not a NIfTI image that can be read")
    if raw.get_data_dtype().fields:
        raise FileError(path, "expected a grey volume; every voxel has several values (RGB?)")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise FileError(path, f"expected three dimensions; it has {len(shape)} ({' × '.join(map(str, shape))})")
    if not (sizes > 0).all():
        raise FileError(path, "a voxel size is zero or negative; repair the header")
    blank = not any(codes) or (bool((sizes == 1).all()) and not _is_scaled(raw))
    table = header if blank and header is not None else CtHeader()
    remarks = _form_remarks(path, image.header)
    try:
        values = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape, order="F").T
    except Exception as error:
        give_up(path, error, DAMAGED)
    axes = (BASIS @ image.affine[:3, :3] * unit)[:, ::-1]
    origin = (BASIS @ image.affine[:3, 3:] * unit)[:, 0]
    if table.direction is not None:
        axes = np.array(table.direction) * np.linalg.norm(axes, axis=0)
    elif not any(codes):
        remarks.append(NO_ORIENTATION)
    if table.spacing_mm is not None:
        axes = axes / np.linalg.norm(axes, axis=0) * np.array(table.spacing_mm)
    return Scan(grey_volume(path, _rescaled(values, raw, table), axes, origin), tuple(remarks))


def _rescaled(values: Array, raw: Any, table: CtHeader) -> Array:
    """Return values by the table's slope and intercept, if the header has none."""
    if _is_scaled(raw):
        return values
    if table.slope is not None and table.slope != 1.0:
        values = values * np.float32(table.slope)
    return values + np.float32(table.intercept) if table.intercept else values


def _is_scaled(raw: Any) -> bool:
    """Return whether the header has a rescale; a slope of 0 means none (nifti1.h)."""
    slope, intercept = (float(np.nan_to_num(raw[name])) for name in ("scl_slope", "scl_inter"))
    return slope not in (0.0, 1.0) or (slope == 1.0 and intercept != 0.0)


def _form_remarks(path: Path, header: Any) -> list[str]:
    """Return remarks on qform and sform if both are set. Raises FileError if they contradict each other."""
    sform = header.get_sform(coded=True)[0]
    try:
        qform = header.get_qform(coded=True)[0]
    except Exception:  # not a valid quaternion
        return ["the qform is not a rotation; the sform was used"]
    if qform is None or sform is None:
        return []
    (sform_mm, sform_ways), (qform_mm, qform_ways) = _steps(sform), _steps(qform)
    along = np.argmax(np.abs(sform_ways), axis=0)
    against = (sform_ways * qform_ways).sum(axis=0) < SAME_WAY
    if against.any():
        sides = " and about ".join(SIDES[axis] for axis in sorted({int(axis) for axis in along[against]}))
        raise FileError(
            path,
            f"qform and sform contradict each other about {sides}: which one is right cannot be told from the file; "
            "export it again, or set the code of the wrong one to 0",
        )
    if np.abs(qform_mm / np.maximum(sform_mm, 1e-6) - 1).max() > SAME_SIZE:
        return [
            f"voxel sizes by qform ({_as_text(qform_mm)} mm) and by sform ({_as_text(sform_mm)} mm) differ; the sform was used"
        ]
    return []


def _steps(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An affine's voxel sizes [3], and the unit vectors [3, 3] along which the array's axes run."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return sizes, affine[:3, :3] / np.maximum(sizes, 1e-6)


def _as_text(sizes: NDArray[np.float64]) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes)
