"""The findings on a pair that was checked, and its stored files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from x2c.core.config import Section
from x2c.data.remark import Remark
from x2c.data.sources.candidate import UNKNOWN_LABEL
from x2c.data.volume import Triple

HU_FILE, XRAY_FILE, DRR_FILE, RECORD_FILE = "hu.npy", "xray.npy", "drr.npy", "record.json"
THUMBNAIL_FILE = "thumbnail.npy"
Status = Literal["ok", "warning", "excluded"]


class Record(Section):
    """The findings on a pair that was checked. Nothing in it identifies the patient."""

    study: str
    patient: str
    where: str
    """Place of the pair in the source's listing."""
    status: Status
    reasons: tuple[str, ...]
    """Sentences for the report: why it is excluded or doubtful, and notes on what was done."""
    label: int
    stamp: str
    """Digest of the files it was made from and of the recipe; empty if the making failed and is to be tried again."""
    split: str = ""
    """train, val or test if the source prescribes it; empty if it does not."""
    hours_apart: float | None = None
    """Hours between CT and X-ray."""
    lung_ml: float | None = None
    """Volume of aerated lung."""
    source_spacing_mm: Triple | None = None
    """Voxel size of the CT as read (z, y, x)."""
    spacing_mm: Triple | None = None
    """Voxel size of a stored half (z, y, x)."""
    embolism_left: int = UNKNOWN_LABEL
    """Embolism in the left lung's arteries: 1 yes, 0 no, 2 unknown."""
    embolism_right: int = UNKNOWN_LABEL
    """Embolism in the right lung's arteries: 1 yes, 0 no, 2 unknown."""
    embolism_central: int = UNKNOWN_LABEL
    """Embolism in the main pulmonary arteries: 1 yes, 0 no, 2 unknown."""
    embolism_slices: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """For each stored slice of each half, 1 if it contains a source slice with an embolus; None if no slice is
    labelled."""
    ct_person: str | None = None
    """Salted hash of the PatientID in the CT's headers; None if there is none."""
    xray_person: str | None = None
    """Salted hash of the PatientID in the X-ray's header; None if there is none."""
    read_sha256: str | None = None
    """SHA-256 of the CT's HU as read, upright and without empty frames: equal for one CT in two formats."""
    xray_margins: tuple[int, int, int, int] | None = None
    """Lines of the X-ray's picture that were taken away as margins: above, left, below, right."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each stored file."""

    def with_remarks(self, remarks: Sequence[Remark], *, strict: bool) -> Record:
        """Return the record with more remarks, and the status that follows from them."""
        if not remarks:
            return self
        status = worse(self.status, status_of(remarks, strict=strict))
        return self.model_copy(update={"status": status, "reasons": (*self.reasons, *(text for _, text in remarks))})


def status_of(remarks: Iterable[Remark], *, strict: bool) -> Status:
    """Return `excluded` or `warning` if a remark is one, else `ok`; with `strict` a warning excludes."""
    severities = {severity for severity, _ in remarks} - {"note"}
    if "excluded" in severities or (strict and severities):
        return "excluded"
    return "warning" if severities else "ok"


def worse(one: Status, other: Status) -> Status:
    """Return the more severe of two."""
    return max(one, other, key=("ok", "warning", "excluded").index)


def reasons_of(remarks: Sequence[Remark], *, strict: bool) -> tuple[str, ...]:
    """Return the sentences that a report shows: of an excluded pair only those that excluded it."""
    if status_of(remarks, strict=strict) != "excluded":
        return tuple(text for _, text in remarks)
    counted = {"excluded", "warning"} if strict else {"excluded"}
    return tuple(text for severity, text in remarks if severity in counted)
