"""Volumes that runs kept for pictures, and the planes in which they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.read.groups import NothingToShowError

VOLUMES, WORST = "volumes.npz", "worst.npz"
_SPACING_MM, _LONGEST = (0.01, 100.0), 10.0
"""Limits on the size of a voxel in mm, and on the ratio of a box's sides: data beyond them cannot be a body."""


@dataclass(frozen=True)
class Sample:
    """Volumes, radiographs and patients that a run kept for pictures.

    Volumes [K, D, H, W] in HU, D from inferior to superior; radiographs [K, h, w].
    """

    patients: tuple[str, ...]
    generated_hu: NDArray[np.int16]
    truth_hu: NDArray[np.int16]
    radiographs: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    clot_share: NDArray[np.uint8] | None = None
    """Embolus content of each voxel of the true volume, 255 being all of it; None if unknown."""

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size in mm of a volume along D, H and W: equal for all sample sizes of the same box."""
        depth, height, width = self.truth_hu.shape[1:]
        z, y, x = self.spacing_mm
        return depth * z, height * y, width * x


@dataclass(frozen=True)
class Plane:
    """A plane through a volume."""

    name: str
    """`axial` or `coronal`."""
    position: float
    """Its place as a share of the axis: from below, from the front."""

    @classmethod
    def through(cls, name: str, index: int, length: int) -> Plane:
        """Return the plane in the middle of a slice."""
        return cls(name, (index + 0.5) / length)

    def index(self, length: int) -> int:
        """Return the index of the slice with the nearest centre, for any number of slices."""
        return min(int(self.position * length), length - 1)

    def cut(self, volume: NDArray[Any]) -> Any:
        """Return the slice of [D, H, W] as displayed: front or head up, the patient's right on the left."""
        if self.name == "axial":
            return volume[self.index(volume.shape[0])]
        return volume[::-1, self.index(volume.shape[1])]

    def size_mm(self, sample: Sample) -> tuple[float, float]:
        """Height and width of its slices."""
        depth, height, width = sample.extent_mm
        return (height if self.name == "axial" else depth), width


def read_sample(path: Path) -> Sample:
    """Read a run's samples/volumes.npz or worst.npz. Raises NothingToShowError where it is damaged, or holds something else."""
    try:
        # Opened here: for a damaged file numpy would leave its own handle open.
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = dict(file)
        return _sample(arrays)
    except Exception as error:
        # Damaged zips, headers and streams raise errors of many kinds, and a picture must not stop the page.
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise NothingToShowError(f"{path}: cannot be read ({why})", "delete the run and train it again") from None


def _sample(arrays: Mapping[str, NDArray[Any]]) -> Sample:
    """Return the sample of these arrays. Raises ValueError if they do not fit together."""
    for name in ("patients", "generated_hu", "truth_hu", "radiographs", "spacing_mm"):
        if name not in arrays:
            raise ValueError(f"{name}: expected an array; got none")
    patients, spacing_mm = arrays["patients"], arrays["spacing_mm"]
    if patients.ndim != 1 or patients.dtype.kind != "U" or not patients.size:
        raise ValueError(f"patients: expected their names; got {_kind(patients)}")
    if len(set(patients.tolist())) < len(patients):
        raise ValueError("patients: expected each once")
    shape = arrays["truth_hu"].shape
    if len(shape) != 4 or shape[0] != len(patients) or not all(shape):
        raise ValueError(f"truth_hu: expected [{len(patients)}, D, H, W]; got {_kind(arrays['truth_hu'])}")
    for name, dtype in (("truth_hu", "int16"), ("generated_hu", "int16"), ("clot_share", "uint8")):
        if name in arrays and (arrays[name].shape != shape or arrays[name].dtype != dtype):
            raise ValueError(f"{name}: expected {dtype} {list(shape)}; got {_kind(arrays[name])}")
    radiographs = arrays["radiographs"]
    if (
        radiographs.ndim != 3
        or len(radiographs) != len(patients)
        or not radiographs.size
        or radiographs.dtype != "uint8"
    ):
        raise ValueError(f"radiographs: expected uint8 [{len(patients)}, h, w]; got {_kind(radiographs)}")
    if spacing_mm.shape != (3,) or spacing_mm.dtype.kind not in "fiu":
        raise ValueError(f"spacing_mm: expected three numbers; got {_kind(spacing_mm)}")
    low, high = _SPACING_MM
    z, y, x = (float(mm) for mm in spacing_mm)
    sides = [voxels * mm for voxels, mm in zip(shape[1:], (z, y, x), strict=True)]
    # Written so that NaN is refused as well.
    if not all(low <= mm <= high for mm in (z, y, x)) or not max(sides) <= _LONGEST * min(sides):
        raise ValueError(f"spacing_mm: expected that of a body; got {z:g}, {y:g}, {x:g} for {list(shape[1:])} voxels")
    return Sample(
        patients=tuple(patients.tolist()),
        generated_hu=arrays["generated_hu"],
        truth_hu=arrays["truth_hu"],
        radiographs=radiographs,
        spacing_mm=(z, y, x),
        clot_share=arrays.get("clot_share"),
    )


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
