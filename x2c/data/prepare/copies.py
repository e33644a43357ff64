"""Duplicates in a source: files of unclear ownership, and copies that would cross the splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.data.prepare.record import HU_FILE, THUMBNAIL_FILE, XRAY_FILE, Record
from x2c.data.preprocess.resample import reduced
from x2c.data.sources.candidate import Candidate

THUMBNAIL_SHAPE = (32, 64, 64)
"""Voxels [D, H, W] of a chest's box, about 7 × 4 × 4 mm each: noise is averaged, and still a scan's own."""
SKETCH_SHAPE = (8, 16, 16)
"""Voxels of a chest's box in which two scans of one person look alike."""
ALIKE_HU = 60.0
"""Root mean square difference of two sketches up to which two scans are compared further. Scans of two people differ by
more than a hundred."""
FLAT_HU = 5.0
"""Change of HU from one voxel of a smoothed thumbnail to the next up to which it is inside a tissue."""
LARGEST_HU = 60.0
"""Limit of fine structure: above it is a vessel or a bone."""
SAME_SCAN = 0.3
"""Correlation of two scans' fine structure inside of tissues from which they are one. Measured on made-up chests: .79 to
1.00 for a scan and its copies at other voxel sizes (2.4 mm against 1.2 to 5 mm), up to .02 for one anatomy scanned twice."""
Item = TypeVar("Item")
Key = TypeVar("Key")


def without_repeats(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates; those that share a file with another patient, or repeat a CT, have a problem instead.

    Examinations of one patient may share an X-ray.
    """
    by_ct, by_xray = _grouped(candidates, lambda c: c.ct), _grouped(candidates, lambda c: c.xray)

    def checked(candidate: Candidate) -> Candidate:
        for what, path, listed in (("CT", candidate.ct, by_ct), ("X-ray", candidate.xray, by_xray)):
            patients = {other.patient for other in listed.get(path, ())}
            if len(patients) > 1:
                return _refused(candidate, f"its {what} stands under {len(patients)} patients")
        first = by_ct.get(candidate.ct, [candidate])[0]
        return candidate if first is candidate else _refused(candidate, f"its CT is listed twice; see {first.where}")

    return [checked(candidate) for candidate in candidates]


def thumbnail(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return a whole chest [D, H, W] in few voxels, HU."""
    depth, height, width = (min(pair) for pair in zip(THUMBNAIL_SHAPE, hu.shape, strict=True))
    return np.rint(reduced(hu.astype(np.float32), (depth, height, width))).astype(np.int16)


def without_copies(records: Sequence[Record], pairs: Path) -> list[Record]:
    """Return the records; copies under other names are excluded. Their folders are in `pairs`.

    Copies are CTs whose HU are the same as read or as stored, CTs that are one scan resampled, and X-rays that are the
    same pixel by pixel. Of one patient's equal CTs the first stays; where patients share a CT or an X-ray all go.
    """
    stored = [record for record in records if THUMBNAIL_FILE in record.digests]
    of_cts: dict[str, Mapping[Any, list[Record]]] = {
        "CT is the same, voxel by voxel,": _grouped(records, lambda r: r.digests.get(HU_FILE)),
        "CT is the same as read, voxel by voxel,": _grouped(stored, lambda r: r.read_sha256),
        "CT is the same scan, resampled,": _same_scans(stored, pairs),
    }
    of_xrays: dict[str, Mapping[Any, list[Record]]] = {"X-ray is the same, pixel by pixel,": _grouped(records, _xray)}
    shared = {what: _by_member(groups) for what, groups in (of_cts | of_xrays).items()}

    def reason(record: Record) -> str:
        for what, group_of in shared.items():
            group = group_of.get(record.study, [record])
            if stranger := next((other for other in group if other.patient != record.patient), None):
                return f"its {what} as one of another patient ({stranger.where})"
        for what in of_cts:
            if (first := shared[what].get(record.study, [record])[0]) is not record:
                return f"its {what} as one at {first.where}"
        return ""

    return [
        record.model_copy(update={"status": "excluded", "reasons": (*record.reasons, why)})
        if (why := reason(record))
        else record
        for record in records
    ]


def _xray(record: Record) -> tuple[Any, ...] | None:
    """Return a key that is equal for equal pictures with equal margins; without them two exposures may look alike."""
    made = record.digests.get(XRAY_FILE)
    return None if made is None else (made, record.xray_margins)


def fine_structure(thumbnail: NDArray[np.int16]) -> NDArray[np.float32]:
    """Unit vector of a thumbnail's fine structure inside of tissues: a scan's noise, and vessels too small to have edges.

    Anatomy that two patients have in common, the borders of their organs, is no part of it. Zeros where there is none.
    """
    hu = thumbnail.astype(np.float32)
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(ndimage.gaussian_filter(hu, 2.0))))
    inside = ndimage.binary_erosion(slope < FLAT_HU)
    fine = np.where(inside, np.clip(hu - ndimage.gaussian_filter(hu, 1.5), -LARGEST_HU, LARGEST_HU), 0).ravel()
    return (fine / (np.linalg.norm(fine) or 1.0)).astype(np.float32)


def _same_scans(records: Sequence[Record], pairs: Path) -> dict[int, list[Record]]:
    """Return groups of records whose CTs are one scan, by their thumbnails."""
    if len(records) < 2:
        return {}
    thumbnails = [np.load(pairs / record.study / THUMBNAIL_FILE, mmap_mode="r") for record in records]
    sketches = np.stack([_sketch(np.asarray(one)) for one in thumbnails])
    squares = np.square(sketches).sum(1)
    vectors: dict[int, NDArray[np.float32]] = {}

    def vector(number: int) -> NDArray[np.float32]:
        if number not in vectors:
            vectors[number] = fine_structure(np.asarray(thumbnails[number]))
        return vectors[number]

    groups: dict[int, list[Record]] = {}
    found: set[int] = set()
    for number in range(len(records)):
        apart = squares + squares[number] - 2 * sketches @ sketches[number]
        near = np.flatnonzero(apart <= ALIKE_HU**2 * sketches.shape[1])
        same = [other for other in near[near > number].tolist() if float(vector(number) @ vector(other)) > SAME_SCAN]
        if same and number not in found:
            groups[number] = [records[index] for index in (number, *same)]
            found.update(same)
    return groups


def _sketch(thumbnail: NDArray[np.int16]) -> NDArray[np.float32]:
    depth, height, width = (min(pair) for pair in zip(SKETCH_SHAPE, thumbnail.shape, strict=True))
    sketch = reduced(thumbnail.astype(np.float32), (depth, height, width)).ravel().astype(np.float32)
    # Two scanners, or two exports, may differ by a constant.
    centred: NDArray[np.float32] = sketch - sketch.mean()
    return centred


def _grouped(items: Sequence[Item], key: Callable[[Item], Key | None]) -> dict[Key | None, list[Item]]:
    """Return items grouped by a value; items without it are in no group."""
    groups: dict[Key | None, list[Item]] = defaultdict(list)
    for item in items:
        if (value := key(item)) is not None:
            groups[value].append(item)
    return dict(groups)


def _by_member(groups: Mapping[Any, list[Record]]) -> dict[str, list[Record]]:
    """Return each record's group, by its study."""
    return {record.study: group for group in groups.values() for record in group}


def _refused(candidate: Candidate, problem: str) -> Candidate:
    return replace(candidate, ct=None, xray=None, problem=problem)
