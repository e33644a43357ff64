"""The RSNA STR pulmonary embolism challenge (RSPECT), as downloaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import Line, label_of, read_lines

STUDY, SERIES, SLICE = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
NEGATIVE, INDETERMINATE = "negative_exam_for_pe", "indeterminate"


@SOURCES.register("rspect")
def rspect(root: Path) -> list[Candidate]:
    """Volumes from ROOT/train.csv, one line per slice, and ROOT/train/STUDY/SERIES/SLICE.dcm (or ROOT/STUDY/…).

    The label is 1 − negative_exam_for_pe. An indeterminate examination is neither, and left out. There are no
    radiographs: projections of the volumes stand for them.
    """
    lines = read_lines(root / "train.csv", (STUDY, SERIES, SLICE, NEGATIVE), (INDETERMINATE,))
    base = root / "train" if (root / "train").is_dir() else root
    first: dict[tuple[str, str], Line] = {}
    listed: Counter[tuple[str, str]] = Counter()
    for line in lines:
        key = (line.cells.get(STUDY, ""), line.cells.get(SERIES, "")) if not line.problem else (line.where, "")
        first.setdefault(key, line)
        listed[key] += 1
    if not first:
        raise UserError("train.csv: expected a line per slice; there is none below the headings")
    return [_candidate(base, line, listed[key]) for key, line in first.items()]


def _candidate(base: Path, line: Line, listed: int) -> Candidate:
    if line.problem:
        return Candidate(line.where, "", problem=line.problem)
    study, series = line.cells[STUDY], line.cells[SERIES]
    try:
        if any(not name or "/" in name or name.startswith(".") for name in (study, series)):
            raise ValueError(f"{STUDY} or {SERIES}: not a UID")
        if line.cells.get(INDETERMINATE) in ("1", "1.0"):
            raise ValueError("an indeterminate examination: embolism neither found nor ruled out")
        label = 1 - label_of(line.cells[NEGATIVE])
        folder = base / study / series
        held = sum(1 for _ in folder.glob("*.dcm")) if folder.is_dir() else 0
        if held < listed:
            raise ValueError(f"train.csv lists {listed} slices; the folder of this series holds {held}; copy it again")
        return Candidate(line.where, study, folder, label=label)
    except ValueError as error:
        return Candidate(line.where, study, problem=str(error))
