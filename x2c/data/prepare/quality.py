"""Judgement of whether a CT is fit for training, made before any time is spent on it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from x2c.data.preprocess.chest import chest_extent, lung_sides
from x2c.data.preprocess.lungs import LUNG_HU, Lungs, Mask, room_air, volume_ml
from x2c.data.remark import Remark
from x2c.data.volume import Volume

FEWEST_SLICES = 16
THICKEST_MM, THICK_MM = 10.0, 5.0
"""Largest distance of slices: above the first a vessel's course is lost, above the second (LIDC's) it is doubtful."""
SMALLEST_LUNGS_ML, SMALL_LUNGS_ML = 500.0, 1500.0
"""Smallest volumes of both lungs. An adult's hold 3 to 7 litres; with effusions they may be under 1.5."""
LARGE_LUNGS_ML, LARGEST_LUNGS_ML = 8500.0, 10500.0
"""Largest volumes of both lungs: tall people's and emphysema reach the first; nobody's reach the second."""
CUT_CM2, CUT_SHARE = 12.0, 0.5
"""Lung area at the end of what was scanned: an apex or a recess that is cut, and the share of the largest area at which a
whole part of the lungs is missing."""
SIDE_CUT_CM2 = 150.0
"""Lung area at the sides of the field of view at which a whole part of the lungs is missing."""
TISSUE_HU = (-150.0, 250.0)
"""Range of the median of everything that is not air: between fat and enhanced blood."""
ROOM_OFF_HU, ROOM_FAR_HU = 60.0, 120.0
"""Distance of the room's air from −1000 HU: above the first the scale is doubtful, above the second it is not HU."""
LEAST_ROOM_ML = 500.0
"""Least volume of the room's air from which its HU are determined."""
DARKEST_LUNG_HU = -970.0
"""Lowest median of a lung that holds any tissue, even in severe emphysema."""
LONGER_MM = 100.0
"""Height of a scan beyond the lungs above which a report mentions it."""
UNCOVERED = 0.1
"""Share of the lungs' box outside of the scan above which a report mentions it. Corners of a box may be outside a
round field, and outside of a body whose surroundings were taken away."""
LUNG_LIKE_HU = (-950.0, -600.0)
MOST_HOURS = 24.0
"""Most hours between CT and X-ray, as in the paper."""


def grid_remarks(volume: Volume) -> list[Remark]:
    """Return remarks on an upright CT's grid."""
    remarks: list[Remark] = []
    thickness, *in_plane = volume.spacing_mm
    slices = volume.hu.shape[0]
    if slices < FEWEST_SLICES:
        remarks.append(("excluded", f"only {slices} slices; a chest needs at least {FEWEST_SLICES}"))
    if thickness > THICKEST_MM:
        remarks.append(("excluded", f"slices are {thickness:.1f} mm apart; at most {THICKEST_MM:g} mm"))
    elif thickness > THICK_MM:
        remarks.append(("warning", f"slices are {thickness:.1f} mm apart"))
    if max(in_plane) > 2.55 or min(in_plane) < 0.2:
        remarks.append(("warning", f"unusual pixels of {in_plane[0]:.2f} × {in_plane[1]:.2f} mm"))
    return remarks


def hu_remarks(coarse: Volume, covered: Mask) -> list[Remark]:
    """Return remarks if the numbers cannot be Hounsfield units, judged where a scan covers the volume."""
    # Beside what is not covered, resampling has mixed air in.
    inner = ndimage.binary_erosion(covered, iterations=2, border_value=1)
    hu = coarse.hu[inner if inner.any() else covered]
    lowest, highest = float(hu.min()), float(hu.max())
    if highest - lowest < 1:
        return [("excluded", "every voxel has the same value")]
    if lowest > LUNG_HU:
        return [("excluded", f"no air: values from {lowest:.0f} to {highest:.0f} are no HU; rescale them on export")]
    if highest <= LUNG_HU:
        return [("excluded", f"air alone: values from {lowest:.0f} to {highest:.0f}; is it a chest, and are they HU?")]
    tissue = float(np.median(hu[hu > LUNG_HU]))
    if not TISSUE_HU[0] < tissue < TISSUE_HU[1]:
        return [("excluded", f"soft tissue lies at {tissue:.0f}: values are no HU; rescale them on export")]
    return []


def lung_remarks(coarse: Volume, lungs: Lungs, covered: Mask) -> list[Remark]:
    """Return remarks if not both lungs are there, whole, and of a size and density that lungs have."""
    ml = volume_ml(lungs.mask, coarse)
    if ml < SMALLEST_LUNGS_ML:
        return [("excluded", _why_no_lungs(coarse, covered, ml))]
    remarks = _room_remarks(coarse, covered, lungs)
    if ml > LARGEST_LUNGS_ML:
        remarks.append(("excluded", f"{ml / 1000:.0f} l of air inside the body are more than lungs hold"))
    elif ml > LARGE_LUNGS_ML:
        remarks.append(("warning", f"{ml / 1000:.1f} l of air inside the body are much for lungs"))
    if ml < SMALL_LUNGS_ML:
        remarks.append(("warning", f"only {ml:.0f} ml of aerated lung were found"))
    density = float(np.median(coarse.hu[lungs.mask]))
    if density < DARKEST_LUNG_HU:
        remarks.append(("excluded", f"lung lies at {density:.0f}: values are no HU, or it is no lung"))
    sides = lung_sides(coarse, lungs, covered)
    if sides.is_one_sided:
        remarks.append(
            (
                "warning",
                f"hardly any aerated lung on the patient's {sides.smaller} ({min(sides.right_ml, sides.left_ml):.0f} of "
                f"{ml:.0f} ml): opaque, collapsed or missing; the box was mirrored from the other lung",
            )
        )
    extent = chest_extent(coarse, lungs, covered)
    if extent.is_shallow:
        remarks.append(
            ("warning", "the lungs fill little of the chest's depth: effusions? The body tells the box's depth")
        )
    if extent.is_flat:
        remarks.append(
            ("warning", "the lungs are low for their width: effusions? The box was lengthened below to a usual height")
        )
    if lungs.bowel_ml:
        remarks.append(
            ("warning", f"{lungs.bowel_ml:.0f} ml of gas below the lungs were taken for bowel, and left out of the box")
        )
    return remarks + _cut_remarks(coarse, lungs, covered) + _longer_remarks(coarse, lungs)


def box_remarks(share: float) -> list[Remark]:
    """Return a note on a box of which a `share`, 0 to 1, was not scanned. Lungs ending there are reported as cut."""
    if share <= UNCOVERED:
        return []
    return [("note", f"{share:.0%} of the lungs' box lie outside of what was scanned")]


def frame_remarks(planes: tuple[int, int, int]) -> list[Remark]:
    """Return a note on outer planes, counted along (z, y, x), that were removed because they hold nothing."""
    if not planes[0]:
        return []
    return [("note", f"{planes[0]} outer slices hold nothing and were taken away")]


def _room_remarks(coarse: Volume, covered: Mask, lungs: Lungs) -> list[Remark]:
    """Return a remark if the room's air is not near −1000 HU."""
    room = room_air((coarse.hu < LUNG_HU) & covered, covered) & ~lungs.mask
    # Without the body's surface, which is tissue in part, and without blankets.
    inner = ndimage.binary_erosion(room, iterations=2)
    if volume_ml(inner, coarse) < LEAST_ROOM_ML:
        return []
    air = float(np.median(coarse.hu[inner]))
    off = abs(air + 1000)
    if off > ROOM_FAR_HU:
        return [("excluded", f"the room's air lies at {air:.0f} instead of -1000: values are no HU; rescale them")]
    if off > ROOM_OFF_HU:
        return [("warning", f"the room's air lies at {air:.0f} HU instead of -1000")]
    return []


def _cut_remarks(coarse: Volume, lungs: Lungs, covered: Mask) -> list[Remark]:
    """Return remarks if lungs end where the scan ends: above, below or at its sides."""
    remarks: list[Remark] = []
    pixel_cm2 = float(np.prod(coarse.spacing_mm[1:])) / 100
    largest = float(lungs.mask.sum((1, 2)).max()) * pixel_cm2
    beyond = np.pad(~covered, ((1, 1), (0, 0), (0, 0)), constant_values=True)
    for end, uncovered in (("above", beyond[2:]), ("below", beyond[:-2])):
        area = float((lungs.mask & uncovered).any(0).sum()) * pixel_cm2
        if area > CUT_SHARE * largest:
            remarks.append(("excluded", f"the lungs are cut off {end}: {area:.0f} cm² in the last slice"))
        elif area > CUT_CM2:
            remarks.append(("warning", f"the lungs are cut off {end}: {area:.0f} cm² in the last slice"))
    if lungs.side_cm2 > SIDE_CUT_CM2:
        remarks.append(("excluded", f"the field of view cuts the lungs off at the sides: {lungs.side_cm2:.0f} cm²"))
    elif lungs.side_cm2 > CUT_CM2:
        remarks.append(("warning", f"the field of view cuts the lungs off at the sides: {lungs.side_cm2:.0f} cm²"))
    return remarks


def _longer_remarks(coarse: Volume, lungs: Lungs) -> list[Remark]:
    """Return a note on a scan that shows more than a chest."""
    slices = np.flatnonzero(lungs.mask.any((1, 2)))
    dz = coarse.spacing_mm[0]
    ends = {"above": (len(coarse.hu) - 1 - slices[-1]) * dz, "below": slices[0] * dz}
    longer = [f"{mm / 10:.0f} cm {end}" for end, mm in ends.items() if mm > LONGER_MM]
    return (
        [("note", f"the scan reaches {' and '.join(longer)} the lungs; the chest is cut out of it")] if longer else []
    )


def _why_no_lungs(coarse: Volume, covered: Mask, ml: float) -> str:
    low, high = LUNG_LIKE_HU
    hu = coarse.hu[covered]
    if float(((hu > low) & (hu < high)).mean()) > 0.1 and ml < 100:
        return "the lungs reach the image's sides: the field of view cuts them off"
    return f"no lungs: {ml:.0f} ml of air inside the body; is it a chest?"


def time_remarks(hours: float | None) -> list[Remark]:
    """Return a remark if CT and X-ray were not taken close enough to show the same state."""
    if hours is None or hours <= MOST_HOURS:
        return []
    return [("warning", f"CT and X-ray were taken {hours:.0f} h apart; the paper has at most {MOST_HOURS:.0f}")]
