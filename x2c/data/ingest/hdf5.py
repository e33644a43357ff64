"""The HDF5 files of X2CT-GAN (Ying et al., CVPR 2019): a CT of LIDC-IDRI and its frontal and lateral projections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2c.core.errors import FileError
from x2c.data.ingest.scan import DAMAGED, Scan, check_readable, give_up, grey_volume
from x2c.data.volume import Array

SUFFIXES = (".h5", ".hdf5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""First bytes of an HDF5 file."""
CT, FRONTAL = "ct", "xray1"
"""Keys of the volume and of the frontal projection; `xray2` is lateral."""
FIELD_MM = 320.0
"""Extent of the volume along each axis, mm. The stored `spacing` is that of 320 voxels, of 1 mm, before they were
resampled to 256."""
OFFSET_HU = 1000
"""Stored values are HU + 1000."""
LOWEST, HIGHEST = -50, 4500
"""Stored values are 0 to 2500; those beyond are resampling's overshoot and metal, or something other than HU + 1000."""
WHITE = 255
"""The largest value of a stored projection."""
LOOKED_AT = 64
"""Pixels across at which the projection is held against the volume."""
OTHER_WAY = -0.3
"""Correlation between the uneven parts of projection and volume, below which one is the mirror of the other."""


def read_x2ct_ct(path: Path) -> Scan:
    """The CT of an X2CT file, HU [z, y, x]: `ct` − 1000, a field of 320 mm whatever the stored `spacing` says.

    The array's axes run to inferior, posterior and the patient's left, as TF-PRDiT (EVALUATION.md) found by anatomy and
    segmentation; the files themselves do not tell. A remark says where the file's frontal projection fits the mirrored or
    overturned volume. Raises FileError for a file that is no whole HDF5, a missing or misshapen `ct`, and values
    other than HU + 1000.
    """
    found = _read(path, CT, optional=FRONTAL)
    values = found[CT]
    if values.ndim != 3:
        raise FileError(
            path, f"{CT!r}: expected [z, y, x]; got {values.ndim} dimensions; take the file of X2CT as it is"
        )
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < LOWEST or high > HIGHEST:
        raise FileError(
            path,
            f"{CT!r}: expected HU + {OFFSET_HU}, 0 to 2500; got {low:.0f} to {high:.0f}; take the file of X2CT as it is",
        )
    spacing = FIELD_MM / np.array(values.shape) if values.size else np.ones(3)
    axes = np.diag(spacing * (-1, 1, 1))
    volume = grey_volume(path, values.astype(np.float32) - OFFSET_HU, axes, np.zeros(3))
    picture = found.get(FRONTAL)
    return Scan(volume, () if picture is None else _mirror_remarks(values, _picture(path, picture)))


def read_x2ct_xray(path: Path) -> Array:
    """The frontal projection of an X2CT file, [n, n] float32 in [0, 1]: lung dark and bone bright, as read_radiograph has it.

    Row 0 is superior and column 0 the patient's right, as in the volume: X2CT's own script turns its projection from
    behind left for right (CT2XRAY/xraypro.py). `read_x2ct_ct` holds the two against each other. Raises FileError for a
    file that is no whole HDF5, and a missing or misshapen `xray1`.
    """
    return _picture(path, _read(path, FRONTAL)[FRONTAL])


def _read(path: Path, key: str, optional: str = "") -> dict[str, NDArray[Any]]:
    """Return the numbers under `key` and, if present, under `optional`. Raises FileError if `key` is missing."""
    import h5py

    check_readable(path)
    try:
        with path.open("rb") as stream:
            is_hdf5 = stream.read(len(SIGNATURE)) == SIGNATURE
        if not is_hdf5:
            raise FileError(path, "expected an HDF5 file; its content is none; take the file of X2CT as it is")
        # Read-only shares may have no locks.
        with h5py.File(path, "r", locking=False) as file:
            arrays = {name: file.get(name) for name in (key, optional) if name}
            found = {name: np.asarray(array[()]) for name, array in arrays.items() if isinstance(array, h5py.Dataset)}
    except FileError:
        raise
    except Exception as error:  # a broken file can make the parser raise anything
        give_up(path, error, DAMAGED)
    if key not in found:
        raise FileError(path, f"expected the array {key!r}; there is none; take the file of X2CT as it is")
    for name, values in found.items():
        if values.dtype.kind not in "iuf":
            raise FileError(path, f"{name!r}: expected numbers; got something else; take the file of X2CT as it is")
    return found


def _picture(path: Path, values: NDArray[Any]) -> Array:
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not values.size:
        shape = " × ".join(map(str, values.shape)) or "one number"
        raise FileError(
            path, f"{FRONTAL!r}: expected a square picture [n, n]; got {shape}; take the file of X2CT as it is"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= WHITE):
        raise FileError(
            path, f"{FRONTAL!r}: expected greys of 0 to 255; got {low:.4g} to {high:.4g}; project the CT again"
        )
    white = WHITE if high > 1 or values.dtype.kind != "f" else 1
    return (values / white).astype(np.float32)


def _mirror_remarks(ct: NDArray[Any], picture: Array) -> tuple[str, ...]:
    """Return a remark if the picture fits the volume's own projection [z, x] mirrored or overturned."""
    projection, shown = (_small(np.asarray(flat, np.float32)) for flat in (ct.mean(axis=1), picture))
    return tuple(
        f"{FRONTAL} shows the volume of the same file {how}: one of the two is wrong"
        for how, axis in (("mirrored left for right", 1), ("upside down", 0))
        if _correlation(projection - np.flip(projection, axis), shown - np.flip(shown, axis)) < OTHER_WAY
    )


def _small(picture: Array) -> Array:
    return np.asarray(Image.fromarray(picture).resize((LOOKED_AT, LOOKED_AT), Image.Resampling.BOX))


def _correlation(first: Array, second: Array) -> float:
    """Return the correlation of two pictures whose mean is 0."""
    return float((first * second).sum() / max(float(np.sqrt((first**2).sum() * (second**2).sum())), 1e-9))
