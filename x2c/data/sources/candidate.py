"""A pair as a source lists it, before anything of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from x2c.data.ingest.when import Moment

UNKNOWN_LABEL = 2
"""Nobody knows whether there is an embolism (`diffusion.guidance.UNKNOWN`)."""


@dataclass(frozen=True)
class Candidate:
    """A CT and, where there is one, its radiograph. Paths and ids identify patients: only `where` may be shown."""

    where: str
    """Where the pair is listed, such as `pairs.csv line 17`."""
    patient: str
    """The patient's id at the source; pairs of one patient stay in one split."""
    ct: Path | None = None
    """The file of a whole volume, or the folder of a DICOM series."""
    xray: Path | None = None
    """None where the source has none: projections of the CT stand for it."""
    label: int = UNKNOWN_LABEL
    """1 embolism, 0 none, UNKNOWN_LABEL."""
    ct_taken: Moment | None = None
    xray_taken: Moment | None = None
    problem: str = ""
    """Why the pair cannot be used, where that is plain from the listing."""
