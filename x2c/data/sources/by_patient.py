"""CTs and radiographs in folders of patients, told apart by their DICOM headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from x2c.core.console import track
from x2c.core.errors import UserError
from x2c.data.ingest.dicom_header import Header, read_headers
from x2c.data.ingest.dicom_stack import not_a_slice
from x2c.data.ingest.when import Moment, moment_of
from x2c.data.sources.candidate import UNKNOWN_LABEL, Candidate
from x2c.data.sources.listing import files_under
from x2c.data.views import frontal_of
from x2c.data.xray.view import rank, views_said

RADIOGRAPHS = ("CR", "DX")
OTHER_SUFFIXES = (".csv", ".html", ".json", ".md", ".pdf", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".zip")
"""Names of files beside DICOM files, which may have any name."""
UNDATED_DAYS = 10**6
"""Days between two examinations if one has no date: any two dates are nearer."""


@dataclass(frozen=True)
class Series:
    """A series of CT slices, or a radiograph."""

    path: Path
    """The folder of a CT; the file of a radiograph."""
    count: int
    """Number of files."""
    taken: Moment | None
    rank: int
    """For a radiograph: distance from frontal by its header, 0 for frontal."""

    def days_to(self, other: Series) -> int:
        """Return the whole days between two."""
        return UNDATED_DAYS if not self.taken or not other.taken else abs((self.taken.day - other.taken.day).days)

    def hours_to(self, other: Series) -> float:
        """Return the hours between two."""
        return 24.0 * UNDATED_DAYS if not self.taken or not other.taken else self.taken.hours_to(other.taken)


def pairs_by_patient(root: Path, labels: Mapping[str, int] | None = None) -> list[Candidate]:
    """A pair per patient's folder in ROOT, of the CT and the radiograph (CR or DX) whose dates are nearest.

    Localisers, and files that are neither CT nor radiograph (SEG, SR, XML, …), are passed over. Of the CTs of one day the
    one with the most slices is taken. Of radiographs, those whose headers speak most for a frontal view come first, then
    the nearest date, then the picture's likeness to a frontal chest.

    `labels` are those of patients by the names of their folders. Raises UserError where ROOT holds no folder.
    """
    patients = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not patients:
        raise UserError("--root: expected a folder per patient; there is none; give the folder that holds them")
    named = enumerate(track(patients, "looking through the patients' folders", len(patients)), 1)
    return [
        _candidate(folder, f"folder {number} of {len(patients)}", (labels or {}).get(folder.name, UNKNOWN_LABEL))
        for number, folder in named
    ]


def _candidate(folder: Path, where: str, label: int) -> Candidate:
    places: dict[Path, list[Path]] = defaultdict(list)
    for path in files_under(folder):
        if path.suffix.lower() not in OTHER_SUFFIXES:
            places[path.parent].append(path)
    scans, pictures = _by_first_header(places)
    if not scans or not pictures:
        # If series are mixed in a folder, its first file does not represent all.
        scans, pictures = _by_all_headers(places)
    if not scans:
        return Candidate(where, folder.name, problem="no CT series in the patient's folder")
    if not pictures:
        return Candidate(where, folder.name, problem="no radiograph (CR or DX) in the patient's folder")
    scan, shown = _nearest(scans, pictures)
    frontal = frontal_of([picture.path for picture in shown])
    taken = next(picture.taken for picture in shown if picture.path == frontal)
    return Candidate(where, folder.name, scan.path, frontal, label, xray_taken=taken)


def _by_first_header(places: Mapping[Path, Sequence[Path]]) -> tuple[list[Series], list[Series]]:
    """Return CTs and radiographs, if every series has its own folder. Of a CT only the first slice's header is read."""
    scans: list[Series] = []
    pictures: list[Series] = []
    for place, paths in places.items():
        headers = (header for path in paths for header in read_headers([path]))
        first = next((header for header in headers if _is_ct(header) or header.modality in RADIOGRAPHS), None)
        if first is None:
            continue
        if _is_ct(first):
            scans.append(_scan(place, first, len(paths)))
        elif first.modality in RADIOGRAPHS:
            pictures += _pictures(read_headers(paths))
    return scans, pictures


def _by_all_headers(places: Mapping[Path, Sequence[Path]]) -> tuple[list[Series], list[Series]]:
    """Return CTs and radiographs by the headers of all files."""
    scans: list[Series] = []
    pictures: list[Series] = []
    for place, paths in places.items():
        slices: dict[str, list[Header]] = defaultdict(list)
        headers = read_headers(paths)
        for header in headers:
            if _is_ct(header):
                slices[header.series].append(header)
        scans += [_scan(place, found[0], len(found)) for found in slices.values()]
        pictures += _pictures(headers)
    return scans, pictures


def _is_ct(header: Header) -> bool:
    return header.modality == "CT" and not all(not_a_slice(one) for one in header.slices())


def _scan(place: Path, header: Header, count: int) -> Series:
    return Series(place, count, moment_of(header.dataset), 0)


def _pictures(headers: Iterable[Header]) -> list[Series]:
    return [
        Series(header.path, 1, moment_of(header.dataset), rank(views_said(header.dataset).values()))
        for header in headers
        if header.modality in RADIOGRAPHS
    ]


def _nearest(scans: Sequence[Series], pictures: Sequence[Series]) -> tuple[Series, list[Series]]:
    """The CT and the radiographs of the nearest dates, of those radiographs whose headers speak most for a frontal view."""
    best = min(picture.rank for picture in pictures)
    likely = [picture for picture in pictures if picture.rank == best]
    scan, picture = min(
        ((scan, picture) for scan in scans for picture in likely),
        key=lambda pair: (pair[0].days_to(pair[1]), -pair[0].count, pair[0].hours_to(pair[1]), str(pair[0].path)),
    )
    return scan, [other for other in likely if scan.days_to(other) == scan.days_to(picture)]
