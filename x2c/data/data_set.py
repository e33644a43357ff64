"""The interface of data sets; the entries are in x2c.data.datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from x2c.core.config import Resolution
from x2c.data.cohort import Cohort


class DataSet(Protocol):
    """Pairs of volume and radiograph that are made or read on demand."""

    @property
    def labelled(self) -> bool:
        """Whether there are patients with and without an embolism, and none of unknown label."""

    def cohort_fingerprint(self) -> str:
        """Return a fingerprint of the patients, the same at all sample sizes."""

    def fingerprint(self, resolution: Resolution) -> str:
        """Return a fingerprint of the data, known before they are made."""

    def open(self, cache: Path, resolution: Resolution, workers: int) -> Cohort:
        """Return the cohort; it is made first if it is not in the cache."""

    def structures(
        self, cache: Path, resolution: Resolution, patients: Sequence[str], picked: Sequence[int], workers: int
    ) -> Mapping[str, NDArray[np.float32]] | None:
        """Return the shares [B, D, H, W] of voxels that structures take in the CTs of the patients at some places; None
        if they are unknown."""
