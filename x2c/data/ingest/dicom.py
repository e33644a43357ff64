"""CT volumes from DICOM series: slices in the order of their positions, whatever their files are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.data.ingest.dicom_file import looks_like_dicom
from x2c.data.ingest.dicom_header import Header, Slice, read_header
from x2c.data.ingest.dicom_pixels import slices_hu
from x2c.data.ingest.dicom_stack import TILT, check_acquisitions, ct_slices
from x2c.data.ingest.scan import Scan, grey_volume
from x2c.data.ingest.when import moment_of
from x2c.data.volume import Array

SAME_PLACE = 0.1
"""Share of the usual distance between slices up to which two of them are at the same place."""
UNEVEN = 0.2
"""Share of the usual distance between slices by which one may differ, and a slice may be off its even place, before the
volume is resampled to even distances."""
WIDEST_GAP_MM = 10.0
"""Distance between slices beyond which nothing is interpolated between them."""
SIDEWAYS_MM = 1.0
"""Distance by which a slice may lie beside the others: rounded positions, but no other reconstruction."""
LEVEL_HU = 150.0
"""Distance of a slice's air or bright tissue from those of all slices with the usual rescale beyond which its own is wrong."""
FEWEST_COMPARED = 16
"""Fewest slices of a series in which the others reveal a wrong one: in a shorter one, each shows something else."""
MOST_FINER = 4
"""Most slices that are interpolated for each one that was scanned."""
REGIME = 3
"""Wide gaps in a row that are another distance between slices; fewer of them are places where slices are missing."""


@dataclass(frozen=True)
class Placed:
    """Slices in the order of their places along their normal, mm."""

    slices: list[Slice]
    places: NDArray[np.float64]
    normal: NDArray[np.float64]


def read_series(folder: Path, paths: Sequence[Path]) -> Scan:
    """Return the CT of one series, whose files are in `folder`: classic slices, or the frames of an enhanced file.

    HU by each slice's own rescale slope and intercept. Localisers, secondary captures and other modalities are left out
    and named. Slices that lie unevenly are interpolated linearly, along their normal, to even places. Raises FileError for
    slices that do not make one image: several series, reconstructions, acquisitions, sizes or orientations, missing
    slices, different slices at one place, slices beside each other, a tilted gantry.
    """
    headers, remarks = _headers(folder, paths)
    notes: list[str] = []
    placed = _in_order(ct_slices(folder, headers, notes))
    check_acquisitions(folder, placed.slices, placed.places.tolist())
    placed, doubled = _without_doubles(folder, placed)
    if doubled:
        remarks.append(f"{doubled} slices came twice; one of each was taken")
    step = _step(folder, placed, notes)
    first = placed.slices[0]
    if first.number("RescaleSlope") is None and first.number("RescaleIntercept") is not None:
        remarks.append("the rescale slope is empty; it was taken for 1")
    values = np.empty((len(placed.slices), *first.shape), np.float32)
    for number, hu in enumerate(slices_hu(folder, placed.slices)):
        values[number] = hu
    _check_rescale(folder, placed, values)
    values, step = _evened(placed, values, step, remarks)
    along, down = first.orientation.reshape(2, 3)
    row_mm, column_mm = first.spacing
    # Columns: the steps along slices, rows and columns; LPS reversed is superior, posterior, left.
    axes = np.stack([step, down * row_mm, along * column_mm], axis=1)[::-1]
    volume = grey_volume(folder, values, axes, first.position[::-1])
    return Scan(
        volume,
        tuple(remarks),
        moment_of(first.header.dataset),
        notes=tuple(notes),
        slice_z_mm={one.uid: one.centre_z_mm for one in placed.slices if one.frame is None},
        persons=tuple(sorted({one.header.person for one in placed.slices} - {""})),
    )


def _headers(folder: Path, paths: Sequence[Path]) -> tuple[list[Header], list[str]]:
    """Return the headers of all files that are DICOM images, and a remark on files .dcm that are not."""
    found: list[Header] = []
    lost = 0
    for path in paths:
        try:
            header = read_header(path)
        except OSError as error:
            raise FileError(folder, f"a file in it cannot be read ({error.strerror})") from error
        if header is not None:
            found.append(header)
        lost += header is None and _was_dicom(path)
    if not paths:
        raise FileError(folder, "the folder is empty")
    return found, [f"{lost} DICOM files cannot be read and were left out"] if lost else []


def _was_dicom(path: Path) -> bool:
    """Return whether a file that cannot be read as an image was meant as one: by its name or beginning, or if empty."""
    suffix = path.suffix.lower()
    if suffix in (".dcm", ".ima", ".dicom"):
        return True
    # DICOMDIR is the index of a disk.
    return suffix == "" and path.name != "DICOMDIR" and (path.stat().st_size == 0 or looks_like_dicom(path))


def _in_order(slices: Sequence[Slice]) -> Placed:
    along, down = slices[0].orientation.reshape(2, 3)
    normal = np.cross(along, down)
    places = np.array([one.position @ normal for one in slices])
    order = sorted(range(len(slices)), key=lambda index: (places[index], slices[index].header.path.name))
    return Placed([slices[index] for index in order], places[order], normal)


def _without_doubles(folder: Path, placed: Placed) -> tuple[Placed, int]:
    """Return one slice for each place, and the number of duplicates. Raises FileError if two at one place differ."""
    # If every slice is there twice, half of the gaps are zero.
    usual = float(np.quantile(np.diff(placed.places), 0.75))
    kept = [0]
    for number in range(1, len(placed.slices)):
        if placed.places[number] - placed.places[kept[-1]] > SAME_PLACE * usual:
            kept.append(number)
            continue
        first, second = (np.asarray(hu) for hu in slices_hu(folder, [placed.slices[kept[-1]], placed.slices[number]]))
        if not np.array_equal(first, second):
            raise FileError(folder, "two different slices lie at the same place; export one reconstruction")
    chosen = Placed([placed.slices[number] for number in kept], placed.places[kept], placed.normal)
    return chosen, len(placed.slices) - len(kept)


def _step(folder: Path, placed: Placed, notes: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean step from one slice to the next, mm in LPS.

    Raises FileError if slices are missing, lie beside each other, or the gantry was tilted.
    """
    if len(placed.slices) < 2:
        raise FileError(folder, "all slices lie at the same place; give the whole series")
    gaps = np.diff(placed.places)
    usual = float(np.median(gaps))
    if missing := _missing(gaps, usual):
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise FileError(
            folder, f"about {missing} slices are missing inside the volume{left_out}; copy the series again"
        )
    positions = np.array([one.position for one in placed.slices])
    course = (positions[-1] - positions[0]) / (placed.places[-1] - placed.places[0])
    beside = np.linalg.norm(course - (course @ placed.normal) * placed.normal)
    if beside > TILT * np.linalg.norm(course):
        raise FileError(folder, "the gantry was tilted: the grid is sheared; resample it to a right-angled one")
    straight = positions[0] + np.outer(placed.places - placed.places[0], course)
    if (sideways := float(np.linalg.norm(positions - straight, axis=1).max())) > SIDEWAYS_MM:
        raise FileError(
            folder, f"slices lie up to {sideways:.0f} mm beside each other (ImagePositionPatient); export it again"
        )
    way = positions[-1] - positions[0]
    along = (way @ placed.normal) * placed.normal
    # A shear that is within the rounding of positions is none.
    straightened = along if np.linalg.norm(way - along) <= SIDEWAYS_MM else way
    step: NDArray[np.float64] = straightened / (len(positions) - 1)
    return step


def _check_rescale(folder: Path, placed: Placed, values: Array) -> None:
    """Raise FileError where slices with another rescale than most have HU that none of the others has."""
    scales = [(one.number("RescaleSlope"), one.number("RescaleIntercept")) for one in placed.slices]
    usual = Counter(scales).most_common(1)[0][0]
    others = np.array([scale != usual for scale in scales])
    if not others.any() or len(scales) < FEWEST_COMPARED:
        return
    levels = np.quantile(values[:, ::2, ::2].reshape(len(values), -1), (0.05, 0.9), axis=1)
    known = levels[:, ~others]
    low, high = known.min(1, keepdims=True) - LEVEL_HU, known.max(1, keepdims=True) + LEVEL_HU
    off = ((levels < low) | (levels > high)).any(0) & others
    if off.any():
        raise FileError(
            folder,
            f"{off.sum()} slices have another rescale slope or intercept and HU that do not fit the others; export it again",
        )


def _missing(gaps: NDArray[np.float64], usual: float) -> int:
    """Return about how many slices are missing: in gaps too wide to interpolate, and in single wide ones."""
    wide = gaps > 1.5 * usual
    alone = wide & ~_in_a_row(wide, REGIME)
    lost = alone | (gaps > max(WIDEST_GAP_MM, 1.5 * usual))
    return int((np.rint(gaps[lost] / usual) - 1).clip(1).sum())


def _in_a_row(flags: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Return the flags in runs of at least `count`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    kept = np.zeros_like(flags)
    for start, end in edges.reshape(-1, 2):
        kept[start:end] = end - start >= count
    return kept


def _evened(
    placed: Placed, values: Array, step: NDArray[np.float64], remarks: list[str]
) -> tuple[Array, NDArray[np.float64]]:
    """Return values [D, H, W] and the step between them, interpolated to even places if the slices are uneven."""
    gaps, count = np.diff(placed.places), len(placed.places)
    even = np.linspace(placed.places[0], placed.places[-1], count)
    mean = (even[-1] - even[0]) / (count - 1)
    off = max(float(np.abs(gaps - np.median(gaps)).max()), float(np.abs(placed.places - even).max()))
    if off <= UNEVEN * mean:
        return values, step
    # The finer of two distances: nothing that was scanned is lost.
    finest = float(np.quantile(gaps, 0.1))
    new_count = min(round((even[-1] - even[0]) / finest) + 1, MOST_FINER * count)
    new_places = np.linspace(placed.places[0], placed.places[-1], new_count)
    new_step = step * (count - 1) / (new_count - 1)
    after = np.clip(np.searchsorted(placed.places, new_places), 1, count - 1)
    share = (new_places - placed.places[after - 1]) / gaps[after - 1]
    evened = np.empty((new_count, *values.shape[1:]), np.float32)
    for number, (place, weight) in enumerate(zip(after, share, strict=True)):
        evened[number] = (1 - weight) * values[place - 1] + weight * values[place]
    remarks.append(
        f"slices lie unevenly, {gaps.min():.2f} to {gaps.max():.2f} mm apart: interpolated by their places to "
        f"{np.linalg.norm(new_step):.2f} mm"
    )
    return evened, new_step
