"""What the engine asks of a data set; the entries are in x2c.data.datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from x2c.core.config import Resolution
from x2c.data.cohort import Cohort


class DataSet(Protocol):
    """Pairs of volume and radiograph that are made or read when they are asked for."""

    @property
    def labelled(self) -> bool:
        """Whether there are patients with and without an embolism, and none of whom nobody knows."""

    def cohort_fingerprint(self) -> str:
        """What identifies the patients, at whatever sample size."""

    def fingerprint(self, resolution: Resolution) -> str:
        """What identifies the data, known before they are made."""

    def open(self, cache: Path, resolution: Resolution, workers: int) -> Cohort:
        """The cohort, made first where it is not in the cache."""

    def structures(
        self, cache: Path, resolution: Resolution, patients: Sequence[str], picked: Sequence[int], workers: int
    ) -> Mapping[str, NDArray[np.float32]] | None:
        """The shares [B, D, H, W] of voxels that structures take in the CTs of the patients at some places; None where
        nobody has said where they are."""
