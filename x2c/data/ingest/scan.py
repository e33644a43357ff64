"""The result of reading a CT: the volume, and remarks on its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.when import Moment
from x2c.data.volume import Array, Direction, Triple, Volume

DAMAGED = "the file ends early or is damaged; copy it again"
RIGHT_ANGLED = 1e-3
"""Largest cosine between two axes that counts as 0: headers hold few digits."""


@dataclass(frozen=True)
class Scan:
    """A CT as read, with remarks on its files for the reader of a report."""

    volume: Volume
    remarks: tuple[str, ...] = ()
    taken: Moment | None = None
    notes: tuple[str, ...] = ()
    """Sentences on what lay beside the image or was done with its files, which leave no doubt; none by default."""
    slice_z_mm: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Position of each slice along superior, mm, by its SOPInstanceUID; empty (the default) if no file has it. The keys
    identify a patient: they are never shown and never written."""
    persons: tuple[str, ...] = ()
    """PatientIDs as written in the headers; empty (the default) if there are none. Never shown and never written."""


@dataclass(frozen=True)
class CtHeader:
    """Values from a table for a CT whose own header lacks them; None if the table has none either."""

    spacing_mm: Triple | None = None
    """Voxel size (z, y, x), mm."""
    slope: float | None = None
    """HU per stored value."""
    intercept: float | None = None
    """HU of a stored 0."""
    direction: Direction | None = None
    """Columns: directions of the array's axes (slices, rows, columns), as in `Volume.direction`."""


def check_readable(path: Path) -> None:
    """Raise FileError with the system's reason, and the OSError as its cause, if a file cannot be opened and read."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError as error:
        raise FileError(path, "there is no such file") from error
    except OSError as error:
        give_up(path, error, DAMAGED)


def give_up(path: Path, error: Exception, reason: str) -> NoReturn:
    """Raise the FileError for an error in reading a file: with the system's reason if the system is at fault.

    `reason` is used for any other error, and hides the parser's own text, which may quote a header.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and error.errno is not None:
        raise FileError(path, f"cannot be read ({error.strerror})") from error
    raise FileError(path, reason) from None


def grey_volume(path: Path, values: Array, axes_mm: NDArray[Any], origin_mm: NDArray[Any]) -> Volume:
    """A checked volume of values [D, H, W], float32.

    Column j of `axes_mm` [3, 3] is the step along array axis j in mm (z, y, x: superior, posterior, left). Raises
    FileError for too few voxels, numbers that are not finite, and a sheared or flat grid.
    """
    if min(values.shape) < 2:
        raise FileError(path, f"expected a volume; it has {' × '.join(map(str, values.shape))} voxels")
    if bad := values.size - int(np.isfinite(values).sum()):
        raise FileError(path, f"{bad} voxels are NaN or infinite; export it again")
    spacing = np.linalg.norm(axes_mm, axis=0)
    if not (np.isfinite(axes_mm).all() and np.isfinite(origin_mm).all() and spacing.min() > 0):
        raise FileError(path, "the grid has no extent along an axis; repair the header")
    direction = axes_mm / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=RIGHT_ANGLED):
        raise FileError(path, "the grid is sheared (a tilted gantry?); resample it to a right-angled one")
    z, y, x = (float(value) for value in origin_mm)
    dz, dy, dx = (float(value) for value in spacing)
    rows = [(float(a), float(b), float(c)) for a, b, c in direction]
    return Volume(np.ascontiguousarray(values, np.float32), (dz, dy, dx), (z, y, x), (rows[0], rows[1], rows[2]))
