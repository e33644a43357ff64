"""Selection of the slices of a folder that form one image; other files are named in notes, and mixtures are refused.

An attribute that may change from slice to slice and that the volume depends on is compared over all slices: orientation,
size, pixel size, kernel, thickness, image type, frame of reference, acquisition, rescale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from x2c.core.errors import FileError
from x2c.data.ingest.dicom_header import Header, Slice

TILT = 1e-2
"""Sine of an angle up to which two directions count as one: headers hold few digits."""
SAME_MM = 1e-3
"""Difference up to which two pixel sizes are one: headers hold few digits."""
SAME_THICKNESS_MM = 0.05
"""Difference up to which two thicknesses are one: some scanners compute them."""
FEW = 0.05
"""Share of the slices up to which those of another orientation are localisers, and not a second image."""
OTHER_MODALITIES = {"PT": "PET", "NM": "NM", "MR": "MR", "SEG": "segmentation", "SR": "report", "CR": "radiograph"}
OTHER_MODALITIES |= {"DX": "radiograph", "PR": "presentation state", "SC": "secondary capture", "OT": "other"}
"""Names in the report of what may lie beside the CT slices, by DICOM's modality."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Prefix of the UIDs of all SOP classes for secondary captures (PS3.6 A)."""
PASSES = {
    "AcquisitionNumber": "acquisitions",
    "TemporalPositionIdentifier": "points in time",
    "NominalPercentageOfCardiacPhase": "phases of the heart",
    "StackID": "stacks",
}
"""Attributes that tell passes of a scanner over one region apart, and their names in messages."""
LOCALISER_TURN = 0.3
"""Difference of a direction cosine from which slices of another orientation are localisers, and not a second image."""
PROJECTED = {"MIP", "MINIP", "MNIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VOLREN", "VOLUME RENDERING", "VRT", "SSD"}
"""Image types whose pixels are not HU of a slice but maxima, minima or renderings of a slab."""


def ct_slices(folder: Path, headers: Sequence[Header], notes: list[str]) -> list[Slice]:
    """Return the slices of the one CT image among a folder's files; the others are named in `notes`.

    Raises FileError where there is none, or where several images are mixed.
    """
    others: Counter[str] = Counter()
    slices: list[Slice] = []
    for header in headers:
        if header.modality not in ("CT", ""):
            others[OTHER_MODALITIES.get(header.modality, "other")] += 1
            continue
        for one in header.slices():
            if name := not_a_slice(one):
                others[name] += 1
            else:
                slices.append(one)
    if not slices:
        if others["projection of a slab"]:
            raise FileError(folder, "the slices are maximum or minimum intensity projections (ImageType); give the CT")
        raise FileError(folder, "no CT slices in DICOM files that say where they lie in the patient")
    _check_pixels(folder, slices)
    slices = _of_one_orientation(folder, slices, others)
    if others:
        named = ", ".join(f"{count} {name}" for name, count in sorted(others.items()))
        notes.append(f"left out beside the CT slices: {named}")
    _check_series(folder, slices, notes)
    _check_alike(folder, slices)
    return slices


def check_acquisitions(folder: Path, slices: Sequence[Slice], places: Sequence[float]) -> None:
    """Raise FileError where slices of several acquisitions, phases or stacks lie between one another."""
    for tag, what in PASSES.items():
        values = [str(one.value(tag) or "") for one in slices]
        counts = Counter(value for value in values if value)
        if len(counts) < 2 or len(counts) > len(slices) / 2:
            # A number for each slice is a counter, not an acquisition.
            continue
        order = np.argsort(places, kind="stable")
        changes = sum(values[a] != values[b] for a, b in pairwise(order))
        if changes > 2 * (len(counts) - 1):
            shown = ", ".join(str(count) for _, count in counts.most_common(3))
            raise FileError(
                folder, f"slices of {len(counts)} {what} lie between one another ({shown}); export one of them"
            )


def not_a_slice(one: Slice) -> str:
    """Return the report's name of a file that is not a CT slice; empty if it is one."""
    sop_class = str(one.header.dataset.get("SOPClassUID") or "")
    if "LOCALIZER" in one.kind:
        return "localiser"
    if sop_class.startswith(SECONDARY_CAPTURE):
        return "secondary capture"
    if PROJECTED & set(one.kind):
        return "projection of a slab"
    if not one.is_placed:
        return "image without a place in the patient"
    return ""


def _check_pixels(folder: Path, slices: Sequence[Slice]) -> None:
    if any(one.frame is None and int(one.header.dataset.get("NumberOfFrames") or 1) > 1 for one in slices):
        raise FileError(
            folder,
            "several frames in one file that does not say where each lies; export it as single slices or as NIfTI",
        )
    if any(int(one.header.dataset.get("SamplesPerPixel") or 1) > 1 for one in slices):
        raise FileError(folder, "expected grey slices; these have several values a pixel (RGB?)")


def _of_one_orientation(folder: Path, slices: Sequence[Slice], others: Counter[str]) -> list[Slice]:
    """The slices of the orientation that most of them have; a few others are localisers that are not called so."""
    groups: list[list[Slice]] = []
    for one in slices:
        for group in groups:
            if np.abs(one.orientation - group[0].orientation).max() <= TILT:
                group.append(one)
                break
        else:
            groups.append([one])
    main = max(groups, key=len)
    strangers = len(slices) - len(main)
    near = any(
        np.abs(group[0].orientation - main[0].orientation).max() < LOCALISER_TURN
        for group in groups
        if group is not main
    )
    if near or strangers > max(1, FEW * len(slices)):
        raise FileError(folder, "slices of several orientations are mixed; export one reconstruction")
    if strangers:
        others["slice of another orientation (a localiser?)"] += strangers
    return main


def _check_series(folder: Path, slices: Sequence[Slice], notes: list[str]) -> None:
    series = Counter(one.header.series for one in slices)
    files = len({one.header.path for one in slices})
    if len(series) == files > 2:
        notes.append("every slice has a SeriesInstanceUID of its own; they were taken for one series")
    elif len(series) > 1:
        counts = ", ".join(str(count) for _, count in series.most_common(3))
        more = ", …" if len(series) > 3 else ""
        raise FileError(
            folder, f"{len(series)} series are mixed ({counts}{more} slices); give each a folder of its own"
        )


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    """Raise FileError for slices of which some were made differently from the others."""
    if len(slices) < 2:
        raise FileError(folder, "a single slice is no volume; give the whole series")
    spread = float(np.ptp([one.spacing for one in slices], axis=0).max())
    for what, value in (
        ("sizes", lambda one: one.shape),
        ("pixel sizes", lambda one: tuple((one.spacing / SAME_MM).round().tolist()) if spread > SAME_MM else None),
    ):
        if kinds := _kinds(slices, value):
            raise FileError(folder, f"slices of {len(kinds)} {what} are mixed; export one reconstruction")
    mixed: dict[str, Counter[Hashable]] = {}
    for name, value in ATTRIBUTES.items():
        kinds = _kinds(slices, value)
        if name == "SliceThickness" and kinds and np.ptp([n for n in kinds if isinstance(n, int)]) <= 1:
            continue
        # Anonymisers may give every file a UID of its own.
        if kinds and len(kinds) < len(slices):
            mixed[name] = kinds
    if mixed:
        counts = " and ".join(str(count) for _, count in next(iter(mixed.values())).most_common(3))
        raise FileError(
            folder,
            f"several images are mixed: {counts} slices differ in {', '.join(mixed)}; give each reconstruction a folder "
            "of its own",
        )
    persons = {one.header.person for one in slices} - {""}
    if 1 < len(persons) < len(slices):
        raise FileError(folder, f"its slices bear {len(persons)} patient ids (PatientID); give each patient a folder")
    told = [tuple(one.value(tag) is not None for tag in ("RescaleSlope", "RescaleIntercept")) for one in slices]
    if len(set(told)) > 1:
        lacking = len(slices) - sum(any(pair) for pair in told)
        raise FileError(
            folder, f"{lacking or 'some'} of {len(slices)} slices lack a rescale slope or intercept; export it again"
        )


def _kinds(slices: Sequence[Slice], value: Callable[[Slice], Hashable]) -> Counter[Hashable]:
    """Count the slices by value, if there are several values; slices without one are not counted."""
    counted = Counter(known for one in slices if (known := value(one)) not in (None, "", ()))
    return counted if len(counted) > 1 else Counter()


def _kernel(one: Slice) -> Hashable:
    value = one.value("ConvolutionKernel")
    return None if value is None else str(value).strip()


def _thickness(one: Slice) -> Hashable:
    value = one.number("SliceThickness")
    return None if value is None else round(value / SAME_THICKNESS_MM)


def _frame_of_reference(one: Slice) -> Hashable:
    return str(one.header.dataset.get("FrameOfReferenceUID") or "")


def _image_type(one: Slice) -> Hashable:
    """ORIGINAL or DERIVED, and AXIAL or another: manufacturers add further values, which may change along a series."""
    return (one.kind[:1], one.kind[2:3]) if one.kind else None


ATTRIBUTES: dict[str, Callable[[Slice], Hashable]] = {
    "ConvolutionKernel": _kernel,
    "SliceThickness": _thickness,
    "ImageType": _image_type,
    "FrameOfReferenceUID": _frame_of_reference,
}
"""Attributes that have one value in an image, by their keywords."""
