"""A folder with a table of pairs: for data of one's own."""

from __future__ import annotations

from pathlib import Path

from x2c.core.registry import SOURCES
from x2c.data.ingest.when import Moment, parse_moment
from x2c.data.sources.candidate import UNKNOWN_LABEL, Candidate
from x2c.data.sources.listing import Line, inside, label_of, read_lines

NEEDED, OPTIONAL = ("patient", "ct", "xray"), ("label", "ct_date", "xray_date")


@SOURCES.register("folder")
def folder(root: Path) -> list[Candidate]:
    """Pairs from ROOT/pairs.csv: patient, ct, xray, label; and, where known, ct_date and xray_date.

    Paths are relative to ROOT. A CT is a NIfTI, NRRD or MetaImage file or the folder of a DICOM series. Without the
    column `label` nobody's label is known.
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
        return Candidate(
            line.where,
            patient,
            inside(root, cells["ct"], "ct"),
            inside(root, cells["xray"], "xray"),
            label_of(cells["label"]) if "label" in cells else UNKNOWN_LABEL,
            _moment(cells, "ct_date"),
            _moment(cells, "xray_date"),
        )
    except ValueError as error:
        return Candidate(line.where, patient, problem=str(error))


def _moment(cells: dict[str, str], column: str) -> Moment | None:
    if not cells.get(column):
        return None
    try:
        return parse_moment(cells[column])
    except ValueError:
        raise ValueError(f"{column}: not a date; write it as 2024-05-31 or 2024-05-31T14:30") from None
