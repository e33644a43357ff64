"""Samples that stay on disk until they are read, so that memory does not depend on their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from x2c.data.cohort import Cohort
from x2c.data.pairs import Scaled
from x2c.data.volume import window


@dataclass(frozen=True)
class ScaledRows:
    """Some rows of a scaled array, [N, C, ...]; indexed by places among them."""

    array: Scaled
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows together."""
        return (len(self.rows), *self.array.raw.shape[1:])

    def __getitem__(self, places: Any) -> Tensor:
        """Return the rows at some places, in the denoiser's scale."""
        return self.array[self.rows[np.asarray(places)]]


@dataclass(frozen=True)
class VolumeRows:
    """Volumes of some rows of a cohort, [N, D, H, W] in [-1, 1]; indexed by places among them, or by places and depths."""

    cohort: Cohort
    rows: NDArray[np.int64]
    window_hu: tuple[float, float]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all volumes together."""
        return (len(self.rows), *self.cohort.hu.shape[1:])

    def __getitem__(self, wanted: Any) -> Tensor:
        """Volumes [B, D, H, W] at places, a slice of them included; at places [B] and depths [B] single slices [B, H, W]."""
        if isinstance(wanted, tuple):
            rows, depths = (np.asarray(numbers) for numbers in wanted)
            pairs = zip(self.rows[rows], depths, strict=True)
            hu = np.concatenate([self.cohort.slices_hu(int(row), np.array([depth])) for row, depth in pairs])
            return torch.from_numpy(window(hu, *self.window_hu)) * 2 - 1
        rows = self.rows[wanted if isinstance(wanted, slice) else np.asarray(wanted)]
        return torch.from_numpy(self.cohort.volumes(rows, *self.window_hu)) * 2 - 1
