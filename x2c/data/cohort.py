"""A prepared data set on disk: arrays a reader maps instead of loading, and one manifest row per patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from x2c.core.errors import UserError
from x2c.core.files import read_json, replacing, write_json
from x2c.data.volume import Array, window

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Cohort:
    """Pairs of a data set. Rows of all arrays and of the manifest correspond."""

    name: str
    fingerprint: str
    manifest: pd.DataFrame
    """patient, split, label, and where known the patient's true parameters."""
    hu: NDArray[np.int16]
    """Volumes [N, D, H, W] in HU, memory-mapped."""
    radiographs: NDArray[np.uint16]
    """[N, h, w], 0..65535 for [0, 1], memory-mapped."""
    spacing_mm: tuple[float, float, float]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split."""
        return np.flatnonzero((self.manifest["split"] == split).to_numpy())

    def patients(self, rows: Iterable[int]) -> list[str]:
        """Patient ids of rows."""
        return [str(patient) for patient in self.manifest["patient"].to_numpy()[list(rows)]]

    def volumes(self, rows: NDArray[np.int64] | slice, low_hu: float, high_hu: float) -> Array:
        """Volumes of rows, windowed to [0, 1]."""
        return window(self.hu[rows].astype(np.float32), low_hu, high_hu)

    def xrays(self, rows: NDArray[np.int64] | slice) -> Array:
        """Radiographs of rows in [0, 1]."""
        return self.radiographs[rows].astype(np.float32) / 65535


def open_cohort(folder: Path) -> Cohort:
    """Read a prepared data set. Raises UserError where a patient stands in two splits."""
    about = read_json(folder / "dataset.json")
    manifest = pd.read_parquet(folder / "manifest.parquet")
    split_over = manifest.groupby("patient")["split"].nunique()
    if (split_over > 1).any():
        raise UserError(
            f"{folder}: a patient may stand in one split; {int((split_over > 1).sum())} stand in several; prepare the data again"
        )
    return Cohort(
        about["name"],
        about["fingerprint"],
        manifest,
        np.load(folder / "hu.npy", mmap_mode="r"),
        np.load(folder / "radiographs.npy", mmap_mode="r"),
        tuple(about["spacing_mm"]),
    )


@contextmanager
def array_file(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[NDArray]:
    """A new .npy file of a shape, filled through the mapped array, whole or absent."""
    with replacing(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        yield array
        array.flush()


def write_about(folder: Path, name: str, fingerprint: str, spacing_mm: tuple[float, float, float]) -> None:
    """Write dataset.json."""
    write_json(folder / "dataset.json", {"name": name, "fingerprint": fingerprint, "spacing_mm": spacing_mm})
