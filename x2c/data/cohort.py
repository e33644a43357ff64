"""A prepared data set on disk: arrays that readers map instead of loading, and one manifest row per patient."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from x2c.core.errors import UserError
from x2c.core.files import read_json, replacing, write_json
from x2c.data.volume import Array, mirrored, window

SPLITS = ("train", "val", "test")


class Stored(Protocol):
    """An array [N, ...] on disk; a mapped file, or many."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows together."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Return some rows, or one."""


@dataclass(frozen=True)
class Cohort:
    """Pairs of a data set. Rows of the manifest and of both arrays correspond.

    With `mirrors`, further rows follow those of the manifest: every training pair once more, with left and right
    exchanged in the volume and in the radiograph.
    """

    name: str
    fingerprint: str
    manifest: pd.DataFrame
    """Columns: patient, split, label, and if known the patient's true parameters."""
    hu: Stored
    """Volumes [N, D, H, W] in HU, int16, memory-mapped."""
    radiographs: Stored
    """Radiographs [N, h, w], 0..65535 for [0, 1], memory-mapped."""
    spacing_mm: tuple[float, float, float]
    mirrors: bool = False

    def __len__(self) -> int:
        return len(self._stored_rows)

    @property
    def depth(self) -> int:
        """Number of slices of a volume."""
        return self.hu.shape[1]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Labels of all rows: 1 embolism, 0 none, 2 unknown."""
        labels: NDArray[np.int64] = self.manifest["label"].to_numpy().astype(np.int64)[self._stored_rows]
        return labels

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return row numbers of a split's pairs; of `val` and `test` one per patient, so that n counts patients."""
        in_split = self.manifest["split"] == split
        if split != "train":
            in_split &= ~self.manifest["patient"].duplicated()
        return np.flatnonzero(in_split.to_numpy())

    @property
    def training_rows(self) -> NDArray[np.int64]:
        """Row numbers to train on, including mirrored ones."""
        return np.concatenate([self.rows("train"), np.arange(len(self.manifest), len(self))])

    def patients(self, rows: Iterable[int]) -> list[str]:
        """Return patient ids of rows."""
        return [str(patient) for patient in self.manifest["patient"].to_numpy()[self._stored_rows[list(rows)]]]

    def volumes(self, rows: NDArray[np.int64] | slice, low_hu: float, high_hu: float) -> Array:
        """Return volumes of rows, windowed to [0, 1]."""
        return window(self._read(self.hu, rows).astype(np.float32), low_hu, high_hu)

    def slices_hu(self, row: int, depths: NDArray[np.int64]) -> Array:
        """Return axial slices [n, H, W] of a row in HU; no others are read."""
        hu = self.hu[int(self._stored_rows[row])][depths].astype(np.float32)
        return np.ascontiguousarray(mirrored(hu)) if row >= len(self.manifest) else hu

    def xrays(self, rows: NDArray[np.int64] | slice) -> Array:
        """Return radiographs of rows in [0, 1]."""
        return self._read(self.radiographs, rows).astype(np.float32) / 65535

    @cached_property
    def _stored_rows(self) -> NDArray[np.int64]:
        """Return the stored position of each row."""
        stored = np.arange(len(self.manifest))
        return np.concatenate([stored, self.rows("train")]) if self.mirrors else stored

    def _read(self, array: Stored, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        wanted = np.arange(len(self))[rows]
        values = np.array(array[self._stored_rows[wanted]])
        turned = wanted >= len(self.manifest)
        values[turned] = mirrored(values[turned])
        return values


def open_cohort(folder: Path) -> Cohort:
    """Read a prepared data set. Raises UserError if a patient is in two splits."""
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
def array_file(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[NDArray[Any]]:
    """Write a new .npy file of a shape through the mapped array, whole or not at all."""
    with replacing(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        yield array
        array.flush()


def _by_name(array: np.memmap[Any, Any]) -> tuple[Any, ...]:
    """A mapped .npy file is sent to another process as its name, and a part of one as its content."""
    whole = isinstance(array.base, mmap.mmap) and str(array.filename).endswith(".npy")
    return (np.load, (str(array.filename), "r")) if whole else tuple(array.__reduce_ex__(2))


ForkingPickler.register(np.memmap, _by_name)


def write_about(folder: Path, name: str, fingerprint: str, spacing_mm: tuple[float, float, float]) -> None:
    """Write dataset.json."""
    write_json(folder / "dataset.json", {"name": name, "fingerprint": fingerprint, "spacing_mm": spacing_mm})
