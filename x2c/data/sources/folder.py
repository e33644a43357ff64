"""A folder with a table of pairs: for data of one's own."""

from __future__ import annotations

from pathlib import Path

from x2c.core.registry import SOURCES
from x2c.data.ingest.when import Moment, parse_moment
from x2c.data.sources.candidate import UNKNOWN_LABEL, Candidate
from x2c.data.sources.listing import Line, contents_of, inside, label_of, read_lines, xray_of

NEEDED, OPTIONAL = ("patient", "ct", "xray"), ("label", "ct_date", "xray_date")


@SOURCES.register("folder")
def folder(root: Path) -> list[Candidate]:
    """Pairs from ROOT/pairs.csv: patient, ct, xray, label; and, where known, ct_date and xray_date.

    Paths are relative to ROOT. A CT is a NIfTI, NRRD or MetaImage file, or the folder of one or of a DICOM series; an
    X-ray is a picture, or a folder of several, of which the frontal one is taken. Without the column `label` nobody's
    label is known. A date that cannot be read becomes a remark.
    """
    return [_candidate(root, line) for line in read_lines(root / "pairs.csv", NEEDED, OPTIONAL)]


def _candidate(root: Path, line: Line) -> Candidate:
    if line.problem:
        return Candidate(line.where, "", problem=line.problem)
    cells = line.cells
    patient = cells["patient"]
    try:
        if not patient:
            raise ValueError("patient: the cell is empty")
        remarks: list[str] = []
        return Candidate(
            line.where,
            patient,
            _ct(inside(root, cells["ct"], "ct")),
            _xray(inside(root, cells["xray"], "xray")),
            label_of(cells["label"]) if "label" in cells else UNKNOWN_LABEL,
            _moment(cells, "ct_date", remarks),
            _moment(cells, "xray_date", remarks),
            remarks=tuple(remarks),
        )
    except ValueError as error:
        return Candidate(line.where, patient, problem=str(error))


def _ct(path: Path) -> Path:
    """Return the volume if a folder holds one and no DICOM: other files are for the reader to judge."""
    if not path.is_dir():
        return path
    contents = contents_of(path)
    return contents.volumes[0] if len(contents.volumes) == 1 and not contents.series else path


def _xray(path: Path) -> Path:
    if not path.is_dir():
        return path
    try:
        return xray_of(path, contents_of(path))
    except ValueError as error:
        raise ValueError(f"xray: {error}") from None


def _moment(cells: dict[str, str], column: str, remarks: list[str]) -> Moment | None:
    """Return the date in a column, and a remark if there is one that cannot be read."""
    if not cells.get(column):
        return None
    try:
        return parse_moment(cells[column])
    except ValueError as error:
        remarks.append(f"{column} was not used: {error}; write it as 2024-05-31 or 2024-05-31T14:30")
        return None
