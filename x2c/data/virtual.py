"""Cohorts of patients that are computed rather than read: all truths are known; equal numbers give equal patients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from x2c.core.config import DataOptions, Resolution
from x2c.core.files import build_once, digest
from x2c.core.parallel import in_processes
from x2c.data.cohort import SPLITS, Cohort, array_file, open_cohort, write_about
from x2c.data.volume import Array, Volume


@dataclass(frozen=True)
class Patient:
    """A pair: volume, radiograph [h, w] in [0, 1], label (1 = embolism), and the parameters drawn to make it."""

    patient_id: str
    volume: Volume
    radiograph: Array
    label: int
    parameters: dict[str, float | int | str | bool]


How = tuple[int, tuple[int, int, int], int, Literal["xray", "drr"], bool]
"""Number of the cohort, [D, H, W], the radiograph's size and kind, and whether the CT is with contrast agent."""
Maker = Callable[[str, int, tuple[int, int, int], int, Literal["xray", "drr"], bool], Patient]
"""Makes a patient from an id and How; picklable. Nothing but volume and spacing depends on the shape."""


STRUCTURES = ("artery", "clot", "heart", "lung")
"""Structures known for every voxel: the pulmonary arteries with their clots, the clots, the heart, the lungs."""

StructureMaker = Callable[[str, int, tuple[int, int, int]], dict[str, Array]]
"""Returns the share of each voxel [D, H, W] that each of STRUCTURES takes, from id, cohort and [D, H, W]; picklable."""


class VirtualCohort(ABC):
    """A data set whose patients a function makes, in parallel and once per cache."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Version of the drawing, increased whenever the code draws something else, so that the fingerprint changes."""

    labelled: ClassVar[bool] = True
    """Every patient's label is known, and both labels occur."""

    class Options(DataOptions):
        """Size and kind of the cohort."""

        train: PositiveInt
        """Number of training patients."""
        val: PositiveInt
        """Number of validation patients."""
        test: Annotated[int, Field(ge=2)]
        """Number of test patients; at least 2, since a control gives each patient another's X-ray."""
        cohort: NonNegativeInt = 0
        """Number of the cohort; another number gives other patients."""
        radiograph_size: PositiveInt
        """Height and width of the radiographs in pixels."""
        contrast: bool = True
        """Whether the CTs show contrast agent, as for emboli; without it they are like LIDC's."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def maker(self, cache: Path) -> Maker:
        """Return the function that makes a patient; data that all patients share are prepared in the cache first."""

    @abstractmethod
    def structure_maker(self, cache: Path) -> StructureMaker:
        """Return the function that locates a patient's structures."""

    def cohort_fingerprint(self) -> str:
        """Return a fingerprint of the patients, the same at all sample sizes and in all splits."""
        patients = self.options.model_dump(mode="json", exclude={"window", "flip", "fold"})
        return digest({self.name: self.version, **patients})

    def fingerprint(self, resolution: Resolution) -> str:
        """Return a fingerprint of the data, known before they are made."""
        return digest({"cohort": self.cohort_fingerprint(), "shape": resolution.shape})

    def open(self, cache: Path, resolution: Resolution, workers: int) -> Cohort:
        """Return the cohort; it is made first if it is not in the cache."""
        self.make(cache, [resolution], workers)
        return open_cohort(self._folder(cache, resolution))

    def make(self, cache: Path, resolutions: Sequence[Resolution], workers: int) -> None:
        """Make the cohort at every sample size that is not in the cache, each patient's anatomy once for all of them."""
        # In a fixed order, so that two processes with sizes in common do not wait for each other.
        by_folder = {self._folder(cache, resolution): resolution for resolution in resolutions}
        self._build(dict(sorted(by_folder.items())), {}, cache, workers)

    def _folder(self, cache: Path, resolution: Resolution) -> Path:
        return cache / "datasets" / f"{self.name}-{self.fingerprint(resolution)}"

    def _build(
        self, wanted: Mapping[Path, Resolution], begun: Mapping[Path, Resolution], cache: Path, workers: int
    ) -> None:
        """Hold the lock of one wanted folder after the other, then make all whose temporary folders are `begun`."""
        if not wanted:
            if begun:
                self._make(begun, cache, workers)
            return
        (folder, resolution), *others = wanted.items()
        built = False

        def build(path: Path) -> None:
            nonlocal built
            built = True
            self._build(dict(others), {**begun, path: resolution}, cache, workers)

        build_once(folder, build)
        if not built:
            self._build(dict(others), begun, cache, workers)

    def structures(
        self, cache: Path, resolution: Resolution, patients: Sequence[str], picked: Sequence[int], workers: int
    ) -> dict[str, NDArray[np.float32]]:
        """Return the shares [B, D, H, W] of each of STRUCTURES in the CTs of the patients at some places.

        The shares of all `patients` are computed once and kept in the cache.
        """
        folder = cache / "structures" / f"{self.name}-{self.fingerprint(resolution)}-{digest(list(patients))}"
        make = partial(_structures_of, self.structure_maker(cache), (self.options.cohort, resolution.shape))

        def build(path: Path) -> None:
            shape = (len(patients), len(STRUCTURES), *resolution.shape)
            with array_file(path / "shares.npy", shape, "uint8") as shares:
                found = in_processes(make, patients, workers, f"locating structures of {len(patients)} patients")
                for row, of_patient in enumerate(found):
                    shares[row] = of_patient

        shares = np.load(build_once(folder, build) / "shares.npy", mmap_mode="r")[list(picked)]
        return {name: shares[:, place].astype(np.float32) / 255 for place, name in enumerate(STRUCTURES)}

    def _make(self, sizes: Mapping[Path, Resolution], cache: Path, workers: int) -> None:
        """Make all patients into one folder for each sample size."""
        o = self.options
        splits = [split for split, count in zip(SPLITS, (o.train, o.val, o.test), strict=True) for _ in range(count)]
        patients = [f"{self.name}-{o.cohort}-{number:05d}" for number in range(len(splits))]
        hows = [(o.cohort, size.shape, o.radiograph_size, o.radiographs, o.contrast) for size in sizes.values()]
        make = partial(_made, self.maker(cache), hows)
        pictures = (len(patients), o.radiograph_size, o.radiograph_size)
        manifest: list[dict[str, object]] = []
        spacings = [(0.0, 0.0, 0.0)] * len(sizes)
        with ExitStack() as files:
            stores = [
                (
                    files.enter_context(array_file(folder / "hu.npy", (len(patients), *size.shape), "int16")),
                    files.enter_context(array_file(folder / "radiographs.npy", pictures, "uint16")),
                )
                for folder, size in sizes.items()
            ]
            made = in_processes(make, patients, workers, f"making {len(patients)} {self.name} patients")
            for row, (of_sizes, split) in enumerate(zip(made, splits, strict=True)):
                for (hu, radiographs), patient in zip(stores, of_sizes, strict=True):
                    hu[row] = np.rint(patient.volume.hu)
                    radiographs[row] = np.rint(patient.radiograph * 65535)
                spacings = [patient.volume.spacing_mm for patient in of_sizes]
                first = of_sizes[0]
                manifest.append({"patient": first.patient_id, "split": split, "label": first.label, **first.parameters})
        for (folder, size), spacing in zip(sizes.items(), spacings, strict=True):
            pd.DataFrame(manifest).to_parquet(folder / "manifest.parquet")
            write_about(folder, self.name, self.fingerprint(size), spacing)


def _structures_of(maker: StructureMaker, how: tuple[int, tuple[int, int, int]], patient: str) -> NDArray[np.uint8]:
    found = maker(patient, *how)
    return np.stack([np.rint(found[name].clip(0, 1) * 255).astype(np.uint8) for name in STRUCTURES])


def _made(maker: Maker, hows: Sequence[How], patient: str) -> list[Patient]:
    """One patient at several sample sizes. Makers keep what they share of the last patient."""
    return [maker(patient, *how) for how in hows]
