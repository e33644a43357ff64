"""The RSNA STR pulmonary embolism challenge (RSPECT), as downloaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.sources.candidate import UNKNOWN_LABEL, Candidate, Emboli
from x2c.data.sources.listing import LABELS, Line, label_of, read_lines

STUDY, SERIES, SLICE = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
NEGATIVE, INDETERMINATE = "negative_exam_for_pe", "indeterminate"
ON_SLICE = "pe_present_on_image"
LEFT, RIGHT, CENTRAL = "leftsided_pe", "rightsided_pe", "central_pe"


@dataclass
class Listed:
    """A series according to the table."""

    first: Line
    """Its first line; labels of an examination are the same in all."""
    count: int = 0
    """Number of lines, which are slices."""
    with_embolus: set[str] = field(default_factory=set)
    """SOPInstanceUIDs of slices that show an embolus."""
    whole: bool = True
    """Whether every line tells whether its slice shows one."""

    def add(self, line: Line) -> None:
        """Count a line."""
        self.count += 1
        shown = LABELS.get(line.cells.get(ON_SLICE, "").lower())
        self.whole &= shown is not None
        if shown:
            self.with_embolus.add(line.cells[SLICE])

    def emboli(self) -> Emboli | None:
        """Return the positions of emboli; None if the table does not have them for every slice."""
        if not self.whole:
            return None
        left, right, central = (
            LABELS.get(self.first.cells.get(column, "").lower(), UNKNOWN_LABEL) for column in (LEFT, RIGHT, CENTRAL)
        )
        return Emboli(left, right, central, frozenset(self.with_embolus))


@SOURCES.register("rspect")
def rspect(root: Path) -> list[Candidate]:
    """Volumes from ROOT/train.csv, one line per slice, and ROOT/train/STUDY/SERIES/SLICE.dcm (or ROOT/STUDY/…).

    The label is 1 − negative_exam_for_pe. An indeterminate examination is neither, and left out. Where the table has
    pe_present_on_image, and leftsided_pe, rightsided_pe and central_pe, they tell where emboli were seen. There are no
    radiographs: projections of the volumes stand for them.
    """
    optional = (INDETERMINATE, ON_SLICE, LEFT, RIGHT, CENTRAL)
    base = root / "train" if (root / "train").is_dir() else root
    listed: dict[tuple[str, str], Listed] = {}
    for line in read_lines(root / "train.csv", (STUDY, SERIES, SLICE, NEGATIVE), optional):
        key = (line.cells.get(STUDY, ""), line.cells.get(SERIES, "")) if not line.problem else (line.where, "")
        if key not in listed:
            listed[key] = Listed(line)
        listed[key].add(line)
    if not listed:
        raise UserError("train.csv: expected a line per slice; there is none below the headings")
    return [_candidate(base, series) for series in listed.values()]


def _candidate(base: Path, listed: Listed) -> Candidate:
    line = listed.first
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
        if held < listed.count:
            raise ValueError(
                f"train.csv lists {listed.count} slices; the folder of this series holds {held}; copy it again"
            )
        return Candidate(line.where, study, folder, label=label, emboli=listed.emboli())
    except ValueError as error:
        return Candidate(line.where, study, problem=str(error))
