"""LIDC-IDRI as the Cancer Imaging Archive gives it: a folder per patient, DICOM studies and series below."""

from __future__ import annotations

from pathlib import Path

from x2c.core.registry import SOURCES
from x2c.data.sources.by_patient import pairs_by_patient
from x2c.data.sources.candidate import Candidate


@SOURCES.register("lidc")
def lidc(root: Path) -> list[Candidate]:
    """A pair per patient's folder in ROOT: the CT series with the most slices, and the most frontal CR or DX picture.

    Annotations (XML) are not needed. There is no label of embolism. See `pairs_by_patient`: the archive has set all dates
    of LIDC-IDRI to one day.
    """
    return pairs_by_patient(root)
