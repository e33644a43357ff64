"""One pair, from its files to what is stored of it."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from x2c.core.config import Section
from x2c.core.errors import FileError, UserError
from x2c.core.files import file_digest, read_json, write_json
from x2c.core.script import PROJECT
from x2c.core.seeding import seed_of
from x2c.data.drr import STRAIGHT, random_pose, render_drr
from x2c.data.frontal import xray_remarks
from x2c.data.ingest.dicom import read_headers, read_series
from x2c.data.ingest.images import is_image, read_image
from x2c.data.ingest.scan import Scan
from x2c.data.ingest.when import Moment, moment_of
from x2c.data.prepare.quality import grid_remarks, hu_remarks, lung_remarks, time_remarks
from x2c.data.prepare.recipe import Recipe
from x2c.data.preprocess.lungs import lung_box, lung_mask, volume_ml
from x2c.data.preprocess.resample import resized
from x2c.data.preprocess.steps import coarse, halves, on_grid, upright
from x2c.data.readers import read_radiograph
from x2c.data.remark import Remark
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import files_under
from x2c.data.volume import Array, Triple, Volume

HU_FILE, XRAY_FILE, DRR_FILE, RECORD_FILE = "hu.npy", "xray.npy", "drr.npy", "record.json"
Status = Literal["ok", "warning", "excluded"]


class Record(Section):
    """What is known of a pair once it was looked at. Nothing in it tells who the patient is."""

    study: str
    patient: str
    where: str
    """Where the source lists it."""
    status: Status
    reasons: tuple[str, ...]
    label: int
    stamp: str
    """What it was made from and how; empty where the making failed and shall be tried again."""
    hours_apart: float | None = None
    """Between CT and X-ray."""
    lung_ml: float | None = None
    source_spacing_mm: Triple | None = None
    spacing_mm: Triple | None = None
    """Of a stored half (z, y, x)."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each stored file."""


def prepare_pair(candidate: Candidate, patient: str, study: str, recipe: Recipe, folder: Path) -> Record:
    """The record of a pair whose arrays lie in `folder`; they are made first unless they are there already.

    hu.npy [2, D/2, H, W] int16, the two halves in HU; xray.npy [h, w] and drr.npy [2, h, w], uint16 for [0, 1]. What is
    excluded has a record and no arrays; what the listing tells is unusable has no folder. The folder is whole or absent.
    """
    about: dict[str, Any] = {
        "study": study,
        "patient": patient,
        "where": candidate.where,
        "label": candidate.label,
        "stamp": "",
    }
    if candidate.problem or candidate.ct is None:
        return Record(**about, status="excluded", reasons=(candidate.problem,))
    about["stamp"] = stamp = _stamp(candidate, recipe)
    known = _known(folder)
    if known.get("stamp") == stamp:
        return Record.model_validate({**known, **about})
    temporary = folder.with_name(f".{study}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        record = Record(**about, **_made(candidate, candidate.ct, study, recipe, temporary))
    except FileError as error:
        what = "X-ray" if error.path == candidate.xray else "CT"
        record = Record(**about, status="excluded", reasons=(f"{what}: {error.reason}",))
    except UserError:
        raise  # something that no pair can be made without
    except Exception as error:
        # Its message may quote a header: only where it happened is told.
        reason = f"{type(error).__name__} at {_place(error)}; please report it"
        record = Record(**{**about, "stamp": ""}, status="excluded", reasons=(reason,))
    if record.status == "excluded":
        for left in temporary.iterdir():
            left.unlink()
    write_json(temporary / RECORD_FILE, record.model_dump(mode="json"))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return record


def _known(folder: Path) -> dict[str, Any]:
    """The record of an earlier making; empty where there is none, or what it tells of is not there as it was made."""
    try:
        known: dict[str, Any] = read_json(folder / RECORD_FILE) or {}
    except ValueError:
        return {}
    files = known.get("digests", {}).items()
    return (
        known if all((folder / name).is_file() and file_digest(folder / name) == made for name, made in files) else {}
    )


def _made(candidate: Candidate, ct: Path, study: str, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Make and store the arrays of a pair; returns what its record says of them."""
    scan = _read_ct(ct)
    volume = upright(scan.volume)
    seen = coarse(volume)
    mask = lung_mask(seen, recipe.lungs)
    remarks: list[Remark] = [("warning", remark) for remark in scan.remarks]
    remarks += grid_remarks(volume)
    # Numbers that are no HU explain why no lungs were found: one reason is enough.
    remarks += hu_remarks(seen) or lung_remarks(seen, mask)
    xray = read_radiograph(candidate.xray) if candidate.xray is not None else None
    if xray is not None:
        remarks += [(severity, f"X-ray: {text}") for severity, text in xray_remarks(xray)]
    hours = _hours(candidate, scan)
    remarks += time_remarks(hours)
    status = _status(remarks, strict=recipe.strict)
    about: dict[str, Any] = {
        "status": status,
        "reasons": tuple(
            text for severity, text in remarks if status != "excluded" or recipe.strict or severity == status
        ),
        "hours_apart": hours,
        "lung_ml": round(volume_ml(mask, seen), 1),
        "source_spacing_mm": tuple(round(mm, 4) for mm in volume.spacing_mm),
    }
    if status == "excluded":
        return about
    box = lung_box(seen, mask, recipe.margin_mm)
    dz, dy, dx = box.spacing_mm(recipe.size)
    np.save(folder / HU_FILE, halves(on_grid(volume, box, recipe.size)))
    if xray is not None:
        np.save(folder / XRAY_FILE, _as_stored(resized(xray, recipe.radiograph_size)))
    if recipe.drr != "none":
        np.save(folder / DRR_FILE, _as_stored(_projections(volume, study, recipe)))
    digests = {path.name: file_digest(path) for path in sorted(folder.glob("*.npy"))}
    return {**about, "spacing_mm": (2 * dz, dy, dx), "digests": digests}


def _read_ct(path: Path) -> Scan:
    if path.is_file() and is_image(path):
        return read_image(path)
    if path.is_file():
        raise FileError(path, "expected NIfTI, NRRD, MetaImage, or the folder of a DICOM series")
    files = list(files_under(path))
    images = [file for file in files if is_image(file)]
    return read_image(images[0]) if len(files) == len(images) == 1 else read_series(path, files)


def _projections(volume: Volume, study: str, recipe: Recipe) -> Array:
    """[2, h, w]: one for each half; they differ where the second has a pose of its own."""
    first = render_drr(volume, recipe.radiograph_size, STRAIGHT, recipe.drr)
    if recipe.drr_poses == "straight":
        return np.stack([first, first])
    pose = random_pose(np.random.default_rng(seed_of("drr pose", study)))
    return np.stack([first, render_drr(volume, recipe.radiograph_size, pose, recipe.drr)])


def _hours(candidate: Candidate, scan: Scan) -> float | None:
    """Hours between CT and X-ray, by the listing or else by the files' headers."""
    ct, xray = candidate.ct_taken or scan.taken, candidate.xray_taken or _taken(candidate.xray)
    return None if ct is None or xray is None else round(ct.hours_to(xray), 1)


def _taken(xray: Path | None) -> Moment | None:
    headers = read_headers([xray]) if xray is not None else []
    return moment_of(headers[0].dataset) if headers else None


def _status(remarks: Iterable[Remark], *, strict: bool) -> Status:
    severities = {severity for severity, _ in remarks}
    if "excluded" in severities or (strict and severities):
        return "excluded"
    return "warning" if severities else "ok"


def _as_stored(picture: Array) -> NDArray[np.uint16]:
    return np.rint(np.clip(picture, 0, 1) * 65535).astype(np.uint16)


def _stamp(candidate: Candidate, recipe: Recipe) -> str:
    """What tells whether a pair has to be made again: recipe, dates, and size and time of every file."""
    paths = [path for path in (candidate.ct, candidate.xray) if path is not None]
    files = [file for path in paths for file in (files_under(path) if path.is_dir() else [path])]
    states = [path.stat() for path in files if path.exists()]
    times = [str(candidate.ct_taken), str(candidate.xray_taken)]
    return recipe.stamp([times, [[state.st_size, state.st_mtime_ns] for state in states]])


def _place(error: Exception) -> str:
    """The last line of ours that an error came through."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PROJECT / "x2c")]
    return f"{Path(own[-1].filename).relative_to(PROJECT)}:{own[-1].lineno}" if own else "an unknown place"
