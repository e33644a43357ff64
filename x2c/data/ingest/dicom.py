"""CT volumes from DICOM series: slices in the order of their positions, whatever their files are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.pixels import stored_pixels
from x2c.data.ingest.quiet import quiet_parsers
from x2c.data.ingest.scan import Scan, grey_volume
from x2c.data.ingest.when import moment_of

TAGS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "ViewPosition",
    "NumberOfFrames",
    "SamplesPerPixel",
)
TAGS += ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
TAGS += ("AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime", "StudyDate", "StudyTime")
SAME_PLACE_MM = 0.01
UNEVEN = 0.2
"""Share of the usual distance between slices by which one may differ."""
TILT = 1e-2
"""Sine of the angle between the stack's course and the slices' normal beyond which the gantry was tilted."""


@dataclass(frozen=True)
class Header:
    """A file of a series: its path, and its header without pixels."""

    path: Path
    dataset: Any

    @property
    def series(self) -> str:
        """Which series it belongs to. An identifier: never shown."""
        return str(self.dataset.get("SeriesInstanceUID") or "")

    @property
    def modality(self) -> str:
        """CT, CR, DX, SEG, …"""
        return str(self.dataset.get("Modality") or "").upper()

    @property
    def has_position(self) -> bool:
        """Whether it says where it lies in the patient."""
        sizes = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
        return all(self.numbers(tag).size == size for tag, size in sizes.items())

    def numbers(self, tag: str) -> NDArray[np.float64]:
        """The numbers of a tag; none where it is missing, empty or says something else."""
        value = self.dataset.get(tag)
        try:
            numbers = np.array([] if value is None else value, float).ravel()
        except ValueError:
            return np.array([])
        return numbers[np.isfinite(numbers)]


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """The headers of those files that are DICOM; others are left out."""
    import pydicom

    found: list[Header] = []
    with quiet_parsers():
        for path in paths:
            try:
                dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
                list(dataset)  # values are parsed when they are looked at: look here
            except Exception:  # a broken file can make the parser raise anything
                continue
            if "Rows" in dataset:
                found.append(Header(path, dataset))
    return found


def read_series(folder: Path, paths: Sequence[Path]) -> Scan:
    """The CT of one series, whose files lie in `folder`; localisers among them are left out.

    HU by each slice's own rescale slope and intercept. Raises FileError for slices that do not make one volume: several
    series, sizes or orientations, missing slices, different slices at one place, a tilted gantry.
    """
    readable = read_headers(paths)
    headers = [header for header in readable if not _is_localiser(header)]
    if not headers:
        why = "no CT slices in DICOM files that say where they lie in the patient"
        raise FileError(folder, why if paths else "the folder is empty")
    _check_alike(folder, headers)
    placed, normal = _in_order(headers)
    remarks: list[str] = []
    read = {header.path for header in readable}
    if lost := sum(path.suffix.lower() == ".dcm" and path not in read for path in paths):
        remarks.append(f"{lost} files .dcm cannot be read and were left out")
    placed, doubled = _without_doubles(folder, placed)
    if doubled:
        remarks.append(f"{doubled} slices came twice; one of each was taken")
    step = _step(folder, placed, normal, remarks)
    values = np.stack([_slice_hu(header) for _, header in placed])
    along, down = placed[0][1].numbers("ImageOrientationPatient").reshape(2, 3)
    row_mm, column_mm = placed[0][1].numbers("PixelSpacing")
    # Columns: the steps along slices, rows and columns; LPS reversed is superior, posterior, left.
    axes = np.stack([step, down * row_mm, along * column_mm], axis=1)[::-1]
    origin = placed[0][1].numbers("ImagePositionPatient")[::-1]
    return Scan(grey_volume(folder, values, axes, origin), tuple(remarks), moment_of(placed[0][1].dataset))


def _is_localiser(header: Header) -> bool:
    kind = [str(word).upper() for word in header.dataset.get("ImageType") or ()]
    return header.modality not in ("CT", "") or "LOCALIZER" in kind or not header.has_position


def _check_alike(folder: Path, headers: list[Header]) -> None:
    series = Counter(header.series for header in headers)
    if len(series) > 1:
        counts = ", ".join(str(count) for _, count in series.most_common())
        raise FileError(folder, f"{len(series)} series are mixed ({counts} slices); give each a folder of its own")
    if any(int(header.dataset.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise FileError(folder, "several frames in one file; export it as single slices or as NIfTI")
    if any(int(header.dataset.get("SamplesPerPixel") or 1) > 1 for header in headers):
        raise FileError(folder, "expected grey slices; these have several values a pixel (RGB?)")
    if len(headers) < 2:
        raise FileError(folder, "a single slice is no volume; give the whole series")
    sizes = {(header.dataset.get("Rows"), header.dataset.get("Columns")) for header in headers}
    pixels = {tuple(header.numbers("PixelSpacing").round(4).tolist()) for header in headers}
    for what, kinds in (("sizes", sizes), ("pixel sizes", pixels)):
        if len(kinds) > 1:
            raise FileError(folder, f"slices of {len(kinds)} {what} are mixed; export one reconstruction")
    orientations = np.array([header.numbers("ImageOrientationPatient") for header in headers])
    if np.ptp(orientations, axis=0).max() > TILT:
        raise FileError(folder, "slices of several orientations are mixed; export one reconstruction")


def _in_order(headers: list[Header]) -> tuple[list[tuple[float, Header]], NDArray[np.float64]]:
    """The slices with their places along their normal, mm, in that order; and the normal."""
    along, down = headers[0].numbers("ImageOrientationPatient").reshape(2, 3)
    normal = np.cross(along, down)
    places = [float(header.numbers("ImagePositionPatient") @ normal) for header in headers]
    order = sorted(range(len(headers)), key=lambda index: (places[index], headers[index].path.name))
    return [(places[index], headers[index]) for index in order], normal


def _without_doubles(folder: Path, placed: list[tuple[float, Header]]) -> tuple[list[tuple[float, Header]], int]:
    """One slice for each place, and how many there were too many of, if they hold the same."""
    kept: list[tuple[float, Header]] = []
    for place, header in placed:
        if not kept or place - kept[-1][0] > SAME_PLACE_MM:
            kept.append((place, header))
        elif not np.array_equal(_slice_hu(kept[-1][1]), _slice_hu(header)):
            raise FileError(folder, "two different slices lie at the same place; export one reconstruction")
    return kept, len(placed) - len(kept)


def _step(
    folder: Path, placed: list[tuple[float, Header]], normal: NDArray[np.float64], remarks: list[str]
) -> NDArray[np.float64]:
    """From one slice to the next, mm in LPS. Raises FileError where slices are missing or the gantry was tilted."""
    if len(placed) < 2:
        raise FileError(folder, "all slices lie at the same place; give the whole series")
    gaps = np.diff([place for place, _ in placed])
    usual = float(np.median(gaps))
    if gaps.max() > 1.5 * usual:
        missing = int((np.rint(gaps / usual) - 1).clip(0).sum())
        raise FileError(folder, f"about {missing} slices are missing inside the volume; copy the series again")
    if np.abs(gaps - usual).max() > UNEVEN * usual:
        remarks.append(f"slices lie unevenly: {gaps.min():.2f} to {gaps.max():.2f} mm apart")
    first, last = (placed[index][1].numbers("ImagePositionPatient") for index in (0, -1))
    step = (last - first) / (len(placed) - 1)
    if np.linalg.norm(step - (step @ normal) * normal) > TILT * np.linalg.norm(step):
        raise FileError(folder, "the gantry was tilted: the grid is sheared; resample it to a right-angled one")
    return step


def _slice_hu(header: Header) -> NDArray[np.float32]:
    """A slice's HU [H, W]."""
    import pydicom
    from pydicom.pixels import apply_modality_lut

    with quiet_parsers():
        try:
            dataset = pydicom.dcmread(header.path)
            return apply_modality_lut(stored_pixels(dataset), dataset).astype(np.float32)
        except Exception:  # a broken file can make the parser raise anything
            raise FileError(
                header.path.parent, "a slice is damaged or cannot be decoded; copy the series again"
            ) from None
