"""CT-RATE (Hamamci et al., 2403.17834), and its projections DRR-RATE (Hou et al., 2406.03688)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.scan import CtHeader
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import PICTURE_SUFFIXES, files_under, read_lines
from x2c.data.volume import CANONICAL, Direction

SPLITS = {"train": "train", "valid": "test"}
"""Splits by the names of CT-RATE's folders."""
TABLES = {"train": "train_metadata.csv", "valid": "validation_metadata.csv"}
NAME, SLOPE, INTERCEPT = "VolumeName", "RescaleSlope", "RescaleIntercept"
IN_PLANE, BETWEEN, ORIENTATION = "XYSpacing", "ZSpacing", "ImageOrientationPatient"
FIXED = "_fixed"
SUFFIX = ".nii.gz"
DRR_FOLDERS = ("drr_rate", "DRR-RATE", "drr-rate", "DRR_RATE")
LATERAL_FOLDERS = ("lat", "lateral")
"""Names of DRR-RATE's folders of lateral projections, in small letters."""
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Reconstruction:
    """One of the volumes reconstructed from a scan."""

    path: Path
    fixed: bool
    """Whether its header tells the voxel size, and its values are HU."""
    header: CtHeader | None
    """Header according to the table of metadata; None if that does not have it."""

    @property
    def name(self) -> str:
        """Its name, such as train_1_a_1."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def preference(self) -> tuple[float, int, str]:
        """Sort key, smallest for the one to be used: thin slices, then the lowest number."""
        spacing = self.header.spacing_mm if self.header else None
        number = self.name.rpartition("_")[2]
        return spacing[0] if spacing else np.inf, int(number) if number.isdigit() else 0, self.name


@SOURCES.register("ct_rate")
def ct_rate(root: Path) -> list[Candidate]:
    """A pair per scan from ROOT/dataset/{train,valid}[_fixed]/PATIENT/SCAN/RECONSTRUCTION.nii.gz (or without dataset/).

    Of a scan's reconstructions, which are one examination, the one with the thinnest slices by the table of metadata is
    used, of equals the one with the lowest number. The folders `_fixed` go before the others: there the authors have
    written voxel size, orientation and HU into the files. Elsewhere headers are blank and values unscaled, so that
    ROOT/metadata/{train,validation}_metadata.csv are needed (RescaleSlope, RescaleIntercept, XYSpacing, ZSpacing, and
    ImageOrientationPatient, by default axial).

    Radiographs are those of DRR-RATE by the reconstruction's name, ROOT/drr_rate or beside ROOT, {train,valid}/…/NAME.png
    (or .jpg); without that folder projections of the CTs stand for them. Splits are the authors': train, and valid, on
    which papers report, is test; validation patients are drawn from train. There is no label of embolism.
    """
    base = root / "dataset" if (root / "dataset").is_dir() else root
    scans = {kind: _scans(base, kind, _headers(root, kind)) for kind in SPLITS}
    if not any(scans.values()):
        raise UserError(
            "--root: expected dataset/train, dataset/valid, or these with _fixed, as CT-RATE has them; there is none with "
            "volumes; give the folder that holds dataset"
        )
    drrs = _drrs(root)
    return [
        _candidate(f"{kind} scan {number} of {len(found)}", kind, _patient(scan), reconstructions, drrs)
        for kind, found in scans.items()
        for number, (scan, reconstructions) in enumerate(sorted(found.items()), 1)
    ]


def _scans(base: Path, kind: str, headers: dict[str, CtHeader]) -> dict[str, list[Reconstruction]]:
    """Reconstructions by scan; a scan of the repaired folder is not looked for in the other one."""
    scans: dict[str, list[Reconstruction]] = {}
    for folder, fixed in ((base / f"{kind}{FIXED}", True), (base / kind, False)):
        found: dict[str, list[Reconstruction]] = defaultdict(list)
        for path in files_under(folder) if folder.is_dir() else ():
            if path.name.endswith(SUFFIX):
                found[path.parent.name].append(Reconstruction(path, fixed, headers.get(path.name)))
        scans = {**found, **scans}
    return scans


def _patient(scan: str) -> str:
    """Return train_1 for train_1_a."""
    return scan.rpartition("_")[0] or scan


def _candidate(
    where: str, kind: str, patient: str, reconstructions: Sequence[Reconstruction], drrs: dict[str, list[Path]] | None
) -> Candidate:
    used = min(reconstructions, key=lambda one: one.preference)
    try:
        if not used.fixed and (used.header is None or used.header.spacing_mm is None):
            raise ValueError(
                f"metadata/{TABLES[kind]}: expected the voxel size of this scan, whose own header is blank; there is none; "
                f"copy the table, or use the folder {kind}{FIXED}"
            )
        xray = _drr(drrs, used.name) if drrs is not None else None
    except ValueError as error:
        return Candidate(where, patient, problem=str(error))
    header = None if used.fixed else used.header
    return Candidate(where, patient, used.path, xray, split=SPLITS[kind], header=header)


def _headers(root: Path, kind: str) -> dict[str, CtHeader]:
    """Values of the table of metadata by the volumes' file names."""
    path = root / "metadata" / TABLES[kind]
    if not path.is_file():
        return {}
    optional = (SLOPE, INTERCEPT, IN_PLANE, BETWEEN, ORIENTATION)
    return {line.cells[NAME]: _header(line.cells) for line in read_lines(path, (NAME,), optional) if not line.problem}


def _header(cells: dict[str, str]) -> CtHeader:
    in_plane, between = _numbers(cells, IN_PLANE), _numbers(cells, BETWEEN)
    slope, intercept = _numbers(cells, SLOPE), _numbers(cells, INTERCEPT)
    known = len(in_plane) == 2 and len(between) == 1 and min(*in_plane, *between) > 0
    return CtHeader(
        (between[0], in_plane[0], in_plane[1]) if known else None,
        slope[0] if slope else None,
        intercept[0] if intercept else None,
        _direction(_numbers(cells, ORIENTATION)),
    )


def _numbers(cells: dict[str, str], column: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(cells.get(column, ""))]


def _direction(cosines: list[float]) -> Direction:
    """Return the directions of slices, rows and columns by ImageOrientationPatient; canonical if it is missing.

    CT-RATE's arrays run along DICOM's rows and columns, and along their cross product, as the authors' repair has it.
    """
    if len(cosines) != 6:
        return CANONICAL
    along, down = np.array(cosines).reshape(2, 3)
    # LPS reversed is superior, posterior, left.
    (a, b, c), (d, e, f), (g, h, i) = np.stack([np.cross(along, down), down, along], axis=1)[::-1].tolist()
    return (a, b, c), (d, e, f), (g, h, i)


def _drrs(root: Path) -> dict[str, list[Path]] | None:
    """Return frontal projections by the names of their volumes; None if there is no folder of DRR-RATE."""
    places = [parent / name for parent in (root, root.parent) for name in DRR_FOLDERS]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        return None
    drrs: dict[str, list[Path]] = defaultdict(list)
    for path in files_under(folder):
        inside = {part.lower() for part in path.relative_to(folder).parts[:-1]}
        if path.suffix.lower() in PICTURE_SUFFIXES and not inside.intersection(LATERAL_FOLDERS):
            drrs[path.name.removesuffix(path.suffix).removesuffix(SUFFIX)].append(path)
    return drrs


def _drr(drrs: dict[str, list[Path]], name: str) -> Path:
    found = drrs.get(name, [])
    if len(found) != 1:
        count = len(found) or "none"
        raise ValueError(
            f"DRR-RATE: expected one frontal picture of this volume; there is {count}; copy it again, or move DRR-RATE "
            "away, and projections will stand for the X-rays"
        )
    return found[0]
