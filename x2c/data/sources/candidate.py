"""A pair as a source lists it, before anything of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from x2c.data.ingest.scan import CtHeader
from x2c.data.ingest.when import Moment

UNKNOWN_LABEL = 2
"""Label of a pair of which it is unknown whether there is an embolism (`diffusion.guidance.UNKNOWN`)."""


@dataclass(frozen=True)
class Emboli:
    """Positions of emboli in a CT, according to its source."""

    left: int
    """Emboli in the left lung's arteries: 1 yes, 0 no, UNKNOWN_LABEL."""
    right: int
    """Emboli in the right lung's arteries: 1 yes, 0 no, UNKNOWN_LABEL."""
    central: int
    """Emboli in the main pulmonary arteries: 1 yes, 0 no, UNKNOWN_LABEL."""
    slices: frozenset[str]
    """SOPInstanceUIDs of the CT slices that show one; every other slice shows none. They identify a patient: they are
    never shown and never written."""


@dataclass(frozen=True)
class Candidate:
    """A CT and, if there is one, its radiograph. Paths and ids identify patients: only `where` may be shown."""

    where: str
    """Place of the pair in the listing, such as `pairs.csv line 17`."""
    patient: str
    """The patient's id at the source; pairs of one patient stay in one split."""
    ct: Path | None = None
    """The file of a whole volume, or the folder of a DICOM series."""
    xray: Path | None = None
    """A picture, or a folder of several, of which the frontal one is meant. None if the source has none: projections
    of the CT stand for it."""
    label: int = UNKNOWN_LABEL
    """Label: 1 embolism, 0 none, UNKNOWN_LABEL."""
    ct_taken: Moment | None = None
    """Time of the CT according to the listing; None (the default) if only its file may have it."""
    xray_taken: Moment | None = None
    """Time of the radiograph according to the listing; None (the default) if only its file may have it."""
    problem: str = ""
    """The reason why the pair cannot be used, if it is clear from the listing; empty if it can."""
    split: str = ""
    """train, val or test if the source prescribes it; empty (the default) if it does not."""
    header: CtHeader | None = None
    """Voxel size and rescale by a table of the source, for a CT whose own header is blank; None by default."""
    emboli: Emboli | None = None
    """Positions of emboli; None (the default) if the source does not have them."""
    remarks: tuple[str, ...] = ()
    """Oddities of the listing that do not make the pair unusable, for the report; none by default."""
