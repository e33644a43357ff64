"""Making of a pair: read, judge, crop to the chest, resample, project, store."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import FileError
from x2c.core.files import file_digest
from x2c.core.seeding import seed_of
from x2c.data.drr import STRAIGHT, random_pose, render_drr
from x2c.data.frontal import xray_remarks
from x2c.data.ingest.dicom import read_series
from x2c.data.ingest.images import is_image, read_image
from x2c.data.ingest.scan import Scan
from x2c.data.prepare.copies import thumbnail
from x2c.data.prepare.persons import header_person, same_person_remarks
from x2c.data.prepare.pseudonyms import Key
from x2c.data.prepare.quality import (
    box_remarks,
    frame_remarks,
    grid_remarks,
    hu_remarks,
    lung_remarks,
    time_remarks,
)
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.record import DRR_FILE, HU_FILE, THUMBNAIL_FILE, XRAY_FILE, reasons_of, status_of
from x2c.data.preprocess.box import Box
from x2c.data.preprocess.chest import chest_box
from x2c.data.preprocess.coverage import Coverage, coverage, filled_with_air, trimmed, uncovered_share
from x2c.data.preprocess.lungs import Lungs, Mask, find_lungs, volume_ml
from x2c.data.preprocess.resample import resized
from x2c.data.preprocess.steps import coarse, halves, on_grid, upright
from x2c.data.readers import Radiograph, read_xray
from x2c.data.remark import Remark
from x2c.data.sources.candidate import Candidate, Emboli
from x2c.data.sources.listing import files_under
from x2c.data.volume import Array, Triple, Volume


@dataclass(frozen=True)
class Looked:
    """A CT that was checked: upright and without frames, with air wherever no scan covers it."""

    volume: Volume
    covered: Coverage
    seen: Volume
    """The same CT at about 3 mm."""
    seen_covered: Mask
    lungs: Lungs


def make_pair(candidate: Candidate, ct: Path, study: str, recipe: Recipe, key: Key, folder: Path) -> dict[str, Any]:
    """Make and store the arrays of a pair; return what its record says of them.

    Raises FileError for a file that cannot be used, and OSError or MemoryError for failures of the system.
    """
    scan = _read_ct(ct, candidate)
    as_read = upright(scan.volume)
    looked, remarks = look(as_read, recipe.lungs)
    remarks = [*(("warning", text) for text in (*candidate.remarks, *scan.remarks)), *remarks]
    remarks += [("note", text) for text in scan.notes]
    xray = read_xray(candidate.xray) if candidate.xray is not None else None
    remarks += _of_xray(xray)
    hours = _hours(candidate, scan, xray)
    remarks += time_remarks(hours)
    persons = {"ct_person": header_person(key, scan.persons)}
    persons["xray_person"] = header_person(key, (xray.person,) if xray is not None else ())
    remarks += same_person_remarks(persons["ct_person"], persons["xray_person"])
    about: dict[str, Any] = {
        "hours_apart": hours,
        "lung_ml": round(volume_ml(looked.lungs.mask, looked.seen), 1),
        "source_spacing_mm": tuple(round(mm, 4) for mm in as_read.spacing_mm),
        "read_sha256": _read_digest(looked.volume),
        "xray_margins": xray.margins if xray is not None else None,
        **persons,
    }
    if status_of(remarks, strict=recipe.strict) == "excluded":
        return about | _judged(remarks, recipe)
    box = chest_box(looked.seen, looked.lungs, looked.seen_covered, recipe.margin_mm)
    remarks += box_remarks(uncovered_share(looked.volume, looked.covered, box))
    projections = _projections(looked.volume, box, study, recipe)
    remarks += _of_projections(projections)
    about |= _judged(remarks, recipe)
    if about["status"] == "excluded":
        return about
    hu = on_grid(looked.volume, box, recipe.size)
    _write_array(folder / HU_FILE, halves(hu))
    _write_array(folder / THUMBNAIL_FILE, thumbnail(hu))
    if xray is not None:
        _write_array(folder / XRAY_FILE, _as_stored(resized(xray.picture, recipe.radiograph_size)))
    if projections is not None:
        _write_array(folder / DRR_FILE, _as_stored(projections))
    digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.npy"))}
    dz, dy, dx = box.spacing_mm(recipe.size)
    slices = _slices_with_emboli(candidate.emboli, scan, box, recipe.size)
    return {**about, "spacing_mm": (2 * dz, dy, dx), "embolism_slices": slices, "digests": digests}


def look(as_read: Volume, segmenter: str) -> tuple[Looked, list[Remark]]:
    """Return an upright CT with its lungs found, and remarks on it."""
    volume, planes = trimmed(as_read)
    covered = coverage(volume)
    volume = filled_with_air(volume, covered)
    seen = coarse(volume)
    seen_covered = covered.on(seen.hu.shape, volume.hu.shape)
    lungs = find_lungs(seen, seen_covered, segmenter)
    remarks = frame_remarks(planes) + grid_remarks(volume)
    of_hu = hu_remarks(seen, seen_covered)
    remarks += of_hu
    # Numbers that are not HU explain why no lungs were found: one reason is enough.
    if not any(severity == "excluded" for severity, _ in of_hu):
        remarks += lung_remarks(seen, lungs, seen_covered)
    return Looked(volume, covered, seen, seen_covered, lungs), remarks


def _read_ct(path: Path, candidate: Candidate) -> Scan:
    if path.is_file() and is_image(path):
        return read_image(path, candidate.header)
    if path.is_file():
        raise FileError(path, "expected NIfTI, NRRD, MetaImage, or the folder of a DICOM series")
    files = list(files_under(path, strict=True))
    images = [file for file in files if is_image(file)]
    # dcm2niix puts a JSON file beside its image, MetaImage its voxels.
    return read_image(images[0], candidate.header) if len(images) == 1 else read_series(path, files)


def _of_xray(xray: Radiograph | None) -> list[Remark]:
    if xray is None:
        return []
    remarks = [*xray.remarks, *xray_remarks(xray.picture)]
    return [(severity, f"X-ray: {text}") for severity, text in remarks]


def _of_projections(projections: Array | None) -> list[Remark]:
    """A projection is of the CT itself: one that shows no chest is doubtful, whatever an X-ray would be left out for."""
    if projections is None:
        return []
    return [("warning", f"projection: {text}") for _, text in xray_remarks(projections[0])]


def _judged(remarks: list[Remark], recipe: Recipe) -> dict[str, Any]:
    status = status_of(remarks, strict=recipe.strict)
    return {"status": status, "reasons": reasons_of(remarks, strict=recipe.strict)}


def _projections(volume: Volume, box: Box, study: str, recipe: Recipe) -> Array | None:
    """[2, h, w]: one for each half, aimed at the chest; they differ where the second has a pose of its own."""
    if recipe.drr == "none":
        return None
    z, y, x = ((low + high) / 2 for low, high in zip(box.low_mm, box.high_mm, strict=True))
    middle: Triple = (z, y, x)
    first = render_drr(volume, recipe.radiograph_size, STRAIGHT, recipe.drr, middle_mm=middle)
    if recipe.drr_poses == "straight":
        return np.stack([first, first])
    pose = random_pose(np.random.default_rng(seed_of("drr pose", study)))
    return np.stack([first, render_drr(volume, recipe.radiograph_size, pose, recipe.drr, middle_mm=middle)])


def _hours(candidate: Candidate, scan: Scan, xray: Radiograph | None) -> float | None:
    """Hours between CT and X-ray, by the listing or else by the files' headers."""
    ct, other = candidate.ct_taken or scan.taken, candidate.xray_taken or (xray.taken if xray is not None else None)
    return None if ct is None or other is None else round(ct.hours_to(other), 1)


def _slices_with_emboli(
    emboli: Emboli | None, scan: Scan, box: Box, size: tuple[int, int, int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """For each half, whether a labelled source slice lies in each of its slices; None where no slice is labelled."""
    if emboli is None or not scan.slice_z_mm or not emboli.slices <= scan.slice_z_mm.keys():
        return None
    step = box.spacing_mm(size)[0]
    own = np.diff(sorted(scan.slice_z_mm.values()))
    reach = max(step, float(np.median(own)) if own.size else step) / 2
    places = box.origin_mm(size)[0] + step * np.arange(size[0])
    labelled = np.array([scan.slice_z_mm[uid] for uid in emboli.slices])
    found = (np.abs(places[:, None] - labelled) <= reach).any(1).astype(int)
    return tuple(found[0::2].tolist()), tuple(found[1::2].tolist())


def _read_digest(volume: Volume) -> str:
    hu = np.rint(np.clip(volume.hu, -32768, 32767)).astype(np.int16)
    return hashlib.sha256(f"{hu.shape}".encode() + np.ascontiguousarray(hu).tobytes()).hexdigest()


def _write_array(path: Path, array: NDArray[Any]) -> None:
    # np.save reports a full disk without the system's reason.
    stream = io.BytesIO()
    np.save(stream, array)
    path.write_bytes(stream.getbuffer())


def _as_stored(picture: Array) -> NDArray[np.uint16]:
    return np.rint(np.clip(picture, 0, 1) * 65535).astype(np.uint16)
