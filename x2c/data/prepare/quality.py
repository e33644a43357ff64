"""Is a CT fit to learn from? Judged before any hour of training is spent on it."""

from __future__ import annotations

import numpy as np

from x2c.data.preprocess.lungs import LUNG_HU, Mask, volume_ml
from x2c.data.preprocess.resample import AIR_HU
from x2c.data.remark import Remark
from x2c.data.volume import Volume

FEWEST_SLICES = 16
THICKEST_MM, THICK_MM = 10.0, 5.0
"""Between slices: beyond the first a vessel's course is lost, beyond the second (the LIDC's thickest) it is doubtful."""
SMALLEST_LUNGS_ML, SMALL_LUNGS_ML = 500.0, 1500.0
"""Of both lungs. An adult's hold 3 to 7 litres; what effusions leave of them may be under 1.5."""
CUT_CM2, CUT_SHARE = 12.0, 0.5
"""Lung area in the volume's first or last slice: an apex or a recess that is cut, and the share of the largest area at
which a whole part of the lungs is missing."""
TISSUE_HU = (-150.0, 250.0)
"""Where the middle of all that is no air lies: between fat and enhanced blood."""
LUNG_LIKE_HU = (-950.0, -600.0)
MOST_HOURS = 24.0
"""Between CT and X-ray, as the paper asks for."""


def grid_remarks(volume: Volume) -> list[Remark]:
    """What is odd about an upright CT's grid."""
    remarks: list[Remark] = []
    thickness, *in_plane = volume.spacing_mm
    slices = volume.hu.shape[0]
    if slices < FEWEST_SLICES:
        remarks.append(("excluded", f"only {slices} slices; a chest needs at least {FEWEST_SLICES}"))
    if thickness > THICKEST_MM:
        remarks.append(("excluded", f"slices are {thickness:.1f} mm apart; at most {THICKEST_MM:g} mm"))
    elif thickness > THICK_MM:
        remarks.append(("warning", f"slices are {thickness:.1f} mm apart"))
    if max(in_plane) > 2.5 or min(in_plane) < 0.2:
        remarks.append(("warning", f"unusual pixels of {in_plane[0]:.2f} × {in_plane[1]:.2f} mm"))
    return remarks


def hu_remarks(coarse: Volume) -> list[Remark]:
    """Whether the numbers can be Hounsfield units."""
    lowest, highest = float(coarse.hu.min()), float(coarse.hu.max())
    if highest - lowest < 1:
        return [("excluded", "every voxel has the same value")]
    if lowest > LUNG_HU:
        return [("excluded", f"no air: values from {lowest:.0f} to {highest:.0f} are no HU; rescale them on export")]
    tissue = float(np.median(coarse.hu[coarse.hu > LUNG_HU])) if highest > LUNG_HU else AIR_HU
    if not TISSUE_HU[0] < tissue < TISSUE_HU[1]:
        return [("excluded", f"soft tissue lies at {tissue:.0f}: values are no HU; rescale them on export")]
    return []


def lung_remarks(coarse: Volume, mask: Mask) -> list[Remark]:
    """Whether both lungs are there and whole."""
    ml = volume_ml(mask, coarse)
    if ml < SMALLEST_LUNGS_ML:
        return [("excluded", _why_no_lungs(coarse, ml))]
    remarks: list[Remark] = []
    if ml < SMALL_LUNGS_ML:
        remarks.append(("warning", f"only {ml:.0f} ml of aerated lung were found"))
    pixel_cm2 = float(np.prod(coarse.spacing_mm[1:])) / 100
    areas = mask.sum((1, 2)) * pixel_cm2
    for end, area in (("above", areas[-1]), ("below", areas[0])):
        if area > CUT_SHARE * areas.max():
            remarks.append(("excluded", f"the lungs are cut off {end}: {area:.0f} cm² in the last slice"))
        elif area > CUT_CM2:
            remarks.append(("warning", f"the lungs are cut off {end}: {area:.0f} cm² in the last slice"))
    return remarks


def _why_no_lungs(coarse: Volume, ml: float) -> str:
    low, high = LUNG_LIKE_HU
    if float(((coarse.hu > low) & (coarse.hu < high)).mean()) > 0.1 and ml < 100:
        return "the lungs reach the image's sides: the field of view cuts them off"
    return f"no lungs: {ml:.0f} ml of air inside the body; is it a chest?"


def time_remarks(hours: float | None) -> list[Remark]:
    """Whether CT and X-ray were taken close enough to show the same state."""
    if hours is None or hours <= MOST_HOURS:
        return []
    return [("warning", f"CT and X-ray were taken {hours:.0f} h apart; the paper has at most {MOST_HOURS:.0f}")]
