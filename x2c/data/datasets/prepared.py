"""Patients' CTs and radiographs, as `x2c/prepare.py` left them in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationInfo, model_validator

from x2c.core.config import DataOptions, Resolution
from x2c.core.errors import UserError
from x2c.core.files import build_once, digest
from x2c.core.parallel import in_processes
from x2c.core.prepared import about_prepared
from x2c.core.registry import DATASETS
from x2c.data.cohort import Cohort, array_file
from x2c.data.prepare.record import DRR_FILE, HU_FILE, XRAY_FILE
from x2c.data.prepare.store import Stacked, read_manifest, stacked, verify
from x2c.data.preprocess.resample import reduced

FEWEST = {"train": 1, "val": 1, "test": 2}
"""Patients. At least two are tested: as a control, each gets another's X-ray."""


@DATASETS.register("prepared")
class Prepared:
    """A prepared data set; smaller sample sizes are averaged from what is stored."""

    class Options(DataOptions):
        """Folder of the data set."""

        folder: str
        """Folder that x2c/prepare.py wrote (its --out)."""
        fingerprint: str = ""
        """Fingerprint of the folder's manifest. Empty: read from the folder. If given, it must be equal to that of the
        folder."""

        @model_validator(mode="before")
        @classmethod
        def _as_it_is_now(cls, values: Any, info: ValidationInfo) -> Any:
            if (info.context or {}).get("detached"):
                return values
            if not isinstance(values, dict) or not values.get("folder"):
                raise UserError(
                    "folder: the folder of a prepared data set is needed; got none; give one with .folder=DIR"
                )
            folder = str(Path(values["folder"]).expanduser().resolve())
            about = about_prepared(folder)
            if values.get("fingerprint", "") not in ("", about["fingerprint"]):
                raise UserError(
                    f"{folder}: was prepared anew since: expected fingerprint {values['fingerprint']}; "
                    f"it is {about['fingerprint']}; train again, or restore it"
                )
            wanted = values.get("radiographs", "xray")
            if wanted not in about["radiographs"]:
                has = " and ".join(about["radiographs"]) or "no"
                raise UserError(f"{folder}: has {has} radiographs; {wanted!r} were asked for; set .radiographs")
            return {**values, "folder": folder, "fingerprint": about["fingerprint"]}

    def __init__(self, options: Options) -> None:
        self.options, self.folder = options, Path(options.folder)
        self.about = about_prepared(options.folder)

    @property
    def labelled(self) -> bool:
        """Whether there are patients with and without an embolism, and none of unknown label."""
        both: bool = self.about["labels"] == [0, 1]
        return both

    def cohort_fingerprint(self) -> str:
        """Return a fingerprint of the patients, the same at all sample sizes."""
        return digest({"prepared": self.options.fingerprint, "radiographs": self.options.radiographs})

    def fingerprint(self, resolution: Resolution) -> str:
        """Return a fingerprint of the data. Raises UserError for a sample size finer than what is stored."""
        stored = tuple(self.about["shape"])
        if any(asked > there for asked, there in zip(resolution.shape, stored, strict=True)):
            depth, height, width = resolution.shape
            size = f"{max(height, stored[1])}x{max(width, stored[2])}x{2 * max(depth, stored[0])}"
            raise UserError(
                f"resolution.size: {self.folder} holds volumes of {' × '.join(map(str, stored))} (D × H × W); "
                f"{' × '.join(map(str, resolution.shape))} were asked for; prepare it again with --size {size}"
            )
        return digest({"cohort": self.cohort_fingerprint(), "shape": resolution.shape})

    def open(self, cache: Path, resolution: Resolution, workers: int) -> Cohort:
        """Return the cohort, read from the folder; a smaller sample size is made once and kept in the cache."""
        manifest = read_manifest(self.folder)
        self._check_counts(manifest)
        # Keyed by folder: a copy elsewhere may be damaged although this one is not.
        checked = digest({"folder": str(self.folder), "fingerprint": self.options.fingerprint})
        build_once(cache / "datasets" / f"checked-{checked}", lambda _: verify(self.folder, manifest))
        hu: Any = stacked(self.folder, manifest, HU_FILE)
        radiographs = stacked(self.folder, manifest, XRAY_FILE if self.options.radiographs == "xray" else DRR_FILE)
        stored = hu.shape[1:]
        if resolution.shape != stored:
            folder = cache / "datasets" / f"prepared-{self.fingerprint(resolution)}"
            build_once(folder, partial(_reduce, hu=hu, shape=resolution.shape, workers=workers))
            hu = np.load(folder / HU_FILE, mmap_mode="r")
        ratios = [there / asked for there, asked in zip(stored, resolution.shape, strict=True)]
        dz, dy, dx = (mm * ratio for mm, ratio in zip(self.about["spacing_mm"], ratios, strict=True))
        return Cohort("prepared", self.fingerprint(resolution), manifest, hu, radiographs, (dz, dy, dx))

    def structures(
        self, cache: Path, resolution: Resolution, patients: Sequence[str], picked: Sequence[int], workers: int
    ) -> None:
        """Return None: the positions of structures are unknown."""

    def _check_counts(self, manifest: pd.DataFrame) -> None:
        for split, fewest in FEWEST.items():
            count = manifest.loc[manifest["split"] == split, "patient"].nunique()
            if count < fewest:
                raise UserError(
                    f"{self.folder}: split {split} has {count} patients and needs {fewest}; prepare more, "
                    "or with other --splits"
                )


def _reduce(folder: Path, hu: Stacked, shape: tuple[int, int, int], workers: int) -> None:
    """Write hu.npy [N, D, H, W] of `shape`, averaged from the stored volumes."""
    made = in_processes(partial(_reduced, hu, shape), range(len(hu)), workers, f"averaging {len(hu)} volumes")
    with array_file(folder / HU_FILE, (len(hu), *shape), "int16") as array:
        for row, values in enumerate(made):
            array[row] = values


def _reduced(hu: Stacked, shape: tuple[int, int, int], row: int) -> Any:
    return np.rint(reduced(hu[row].astype(np.float32), shape)).astype(np.int16)
