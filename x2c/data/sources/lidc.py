"""LIDC-IDRI as the Cancer Imaging Archive gives it: a folder per patient, DICOM studies and series below."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from x2c.core.console import track
from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.ingest.dicom import Header, read_headers
from x2c.data.ingest.when import moment_of
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import files_under

RADIOGRAPHS = ("CR", "DX")
FRONTAL = ("PA", "AP")


@SOURCES.register("lidc")
def lidc(root: Path) -> list[Candidate]:
    """A pair per patient's folder in ROOT: the CT series with the most slices, and a CR or DX picture, frontal if told.

    Annotations (XML) are not needed. There is no label of embolism.
    """
    patients = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not patients:
        raise UserError("--root: expected a folder per patient; there is none")
    named = enumerate(track(patients, "looking through the patients' folders", len(patients)), 1)
    return [_candidate(folder, f"folder {number} of {len(patients)}") for number, folder in named]


def _candidate(folder: Path, where: str) -> Candidate:
    series: dict[Path, list[Path]] = defaultdict(list)
    for path in files_under(folder):
        if path.suffix.lower() not in (".xml", ".csv", ".txt", ".json"):
            series[path.parent].append(path)
    # A series lies in one folder: its first file tells what it is.
    first = {place: header for place, paths in series.items() if (header := _first_header(paths))}
    scans = [place for place, header in first.items() if header.modality == "CT"]
    pictures = [
        header
        for place, known in first.items()
        if known.modality in RADIOGRAPHS
        for header in read_headers(series[place])
    ]
    if not scans:
        return Candidate(where, folder.name, problem="no CT series in the patient's folder")
    if not pictures:
        return Candidate(where, folder.name, problem="no radiograph (CR or DX) in the patient's folder")
    frontal = sorted(pictures, key=lambda header: (_frontal_rank(header), str(header.path)))[0]
    scan = max(scans, key=lambda place: (len(series[place]), str(place)))
    return Candidate(where, folder.name, scan, frontal.path, xray_taken=moment_of(frontal.dataset))


def _first_header(paths: list[Path]) -> Header | None:
    return next((header for path in paths for header in read_headers([path])), None)


def _frontal_rank(header: Header) -> int:
    view = str(header.dataset.get("ViewPosition") or "").upper()
    return 0 if view in FRONTAL else 1 if not view else 2
