"""The frontal one of several X-ray files of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from x2c.core.errors import FileError
from x2c.data.frontal import frontal_likeness
from x2c.data.ingest.dicom_file import looks_like_dicom, read_dataset
from x2c.data.xray.file import read_file
from x2c.data.xray.view import rank, views_said

HEADER_TAGS = ("ViewPosition", "ViewCodeSequence", "PatientOrientation", "AnatomicalOrientationType")


def frontal_of(paths: Sequence[Path]) -> Path:
    """The frontal one of several X-ray files [n ≥ 1].

    Headers come first (ViewPosition, ViewCodeSequence, PatientOrientation): those that say frontal, then those that say
    nothing, then decubitus, then other views. Among the first that can be read, the one whose displayed picture is
    likest to a frontal chest is taken, and of equals the first by name. Where none can be read, it is the first by rank.
    """
    if len(paths) == 1:
        return paths[0]
    ranks = {path: _header_rank(path) for path in sorted(paths)}
    for best in sorted(set(ranks.values())):
        likeness = {path: shown for path in ranks if ranks[path] == best and (shown := _likeness(path)) is not None}
        if likeness:
            return max(likeness, key=lambda path: likeness[path])
    return min(ranks, key=lambda path: ranks[path])


def _header_rank(path: Path) -> int:
    """Return the rank by what the header says; pictures without a header say nothing."""
    try:
        if not looks_like_dicom(path):
            return rank(())
        dataset = read_dataset(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        return rank(views_said(dataset).values())
    except Exception:  # a broken file can make the parser raise anything; reading its picture will tell
        return rank(())


def _likeness(path: Path) -> float | None:
    """Return the likeness of the displayed picture to a frontal chest; None for a file that cannot be used."""
    try:
        return frontal_likeness(read_file(path).picture)
    except FileError:
        return None
