"""Volumes that runs kept for pictures, and the planes in which they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from analysis.cli import NothingToShowError

VOLUMES, WORST = "volumes.npz", "worst.npz"


@dataclass(frozen=True)
class Sample:
    """What a run kept for pictures.

    Volumes [K, D, H, W] in HU, D from inferior to superior; radiographs [K, h, w].
    """

    patients: tuple[str, ...]
    generated_hu: NDArray[np.int16]
    truth_hu: NDArray[np.int16]
    radiographs: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    clot_share: NDArray[np.uint8] | None = None
    """How much of each voxel of the true volume is embolus, 255 being all of it; None where nobody knows."""

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Of a volume along D, H and W: alike for all sample sizes of the same box."""
        depth, height, width = self.truth_hu.shape[1:]
        z, y, x = self.spacing_mm
        return depth * z, height * y, width * x


@dataclass(frozen=True)
class Plane:
    """Where a volume is cut."""

    name: str
    """`axial` or `coronal`."""
    position: float
    """Where it cuts, as a share of the axis: from below, from the front."""

    @classmethod
    def through(cls, name: str, index: int, length: int) -> Plane:
        """The plane in the middle of a slice."""
        return cls(name, (index + 0.5) / length)

    def index(self, length: int) -> int:
        """Of all slices the one that holds the position: it has the nearest centre, however many there are."""
        return min(int(self.position * length), length - 1)

    def cut(self, volume: NDArray[Any]) -> Any:
        """The slice of [D, H, W] as it is looked at: front or head up, the patient's right on the left."""
        if self.name == "axial":
            return volume[self.index(volume.shape[0])]
        return volume[::-1, self.index(volume.shape[1])]

    def size_mm(self, sample: Sample) -> tuple[float, float]:
        """Height and width of its slices."""
        depth, height, width = sample.extent_mm
        return (height if self.name == "axial" else depth), width


def read_sample(path: Path) -> Sample:
    """Read a run's samples/volumes.npz or worst.npz. Raises NothingToShowError where it is damaged."""
    try:
        # Opened here: of a damaged file numpy would leave its own handle open.
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = dict(file)
        z, y, x = (float(mm) for mm in arrays["spacing_mm"])
        return Sample(
            patients=tuple(str(patient) for patient in arrays["patients"]),
            generated_hu=arrays["generated_hu"],
            truth_hu=arrays["truth_hu"],
            radiographs=arrays["radiographs"],
            spacing_mm=(z, y, x),
            clot_share=arrays.get("clot_share"),
        )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise NothingToShowError(f"{path}: cannot be read ({error}); delete the run and train it again") from None
