"""The procedural data set: made-up chests, nothing to download, every truth known."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field, NonNegativeInt, PositiveInt

from x2c.core.config import DataOptions, Resolution
from x2c.core.console import track
from x2c.core.files import build_once, digest
from x2c.core.registry import DATASETS
from x2c.data.cohort import SPLITS, Cohort, array_file, open_cohort, write_about
from x2c.data.phantom import make_patient

VERSION = 1
"""Raised whenever the phantom's code changes what it draws: the fingerprint must change with it."""


@DATASETS.register("phantom")
class Phantom:
    """Procedural thorax pairs."""

    class Options(DataOptions):
        """The cohort."""

        train: PositiveInt
        val: PositiveInt
        test: Annotated[int, Field(ge=2)]
        """At least two: the control gives each patient another's X-ray."""
        cohort: NonNegativeInt = 0
        """Another number is another cohort of patients."""
        radiograph_size: PositiveInt

    def __init__(self, options: Options) -> None:
        self.options = options

    def cohort_fingerprint(self) -> str:
        """What identifies the patients, at whatever sample size."""
        return digest({"phantom": VERSION, **self.options.model_dump(mode="json", exclude={"window"})})

    def fingerprint(self, resolution: Resolution) -> str:
        """What identifies the data: known before they are made."""
        return digest({"cohort": self.cohort_fingerprint(), "shape": resolution.shape})

    def open(self, cache: Path, resolution: Resolution, workers: int) -> Cohort:
        """The cohort, made first where it is not in the cache."""
        folder = cache / "datasets" / f"phantom-{self.fingerprint(resolution)}"
        return open_cohort(build_once(folder, partial(self._make, resolution=resolution, workers=workers)))

    def _make(self, folder: Path, resolution: Resolution, workers: int) -> None:
        o = self.options
        splits = [split for split, count in zip(SPLITS, (o.train, o.val, o.test), strict=True) for _ in range(count)]
        patients = [f"phantom-{o.cohort}-{number:05d}" for number in range(len(splits))]
        make = delayed(make_patient)
        # joblib's own processes: they neither fork torch's threads nor need a guarded main module in the caller.
        pool = Parallel(workers, return_as="generator", batch_size=4)
        manifest: list[dict[str, object]] = []
        spacing = (0.0, 0.0, 0.0)
        with (
            array_file(folder / "hu.npy", (len(patients), *resolution.shape), "int16") as hu,
            array_file(
                folder / "radiographs.npy", (len(patients), o.radiograph_size, o.radiograph_size), "uint16"
            ) as radiographs,
        ):
            jobs = pool(
                make(patient, o.cohort, resolution.shape, o.radiograph_size, o.radiographs) for patient in patients
            )
            made = track(jobs, f"making {len(patients)} phantom patients", len(patients))
            for row, (patient, split) in enumerate(zip(made, splits, strict=True)):
                hu[row] = np.rint(patient.volume.hu)
                radiographs[row] = np.rint(patient.radiograph * 65535)
                manifest.append(
                    {"patient": patient.patient_id, "split": split, "label": patient.label, **patient.parameters}
                )
                spacing = patient.volume.spacing_mm
        pd.DataFrame(manifest).to_parquet(folder / "manifest.parquet")
        write_about(folder, "phantom", self.fingerprint(resolution), spacing)
