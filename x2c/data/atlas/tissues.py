"""Tissues of the atlas's voxels, and the replacement of the scanned patient's densities by another patient's.

A voxel is stored as one number, its tissue and its HU. A palette holds the patient's HU for every such number, so that
any change of densities is one lookup a voxel, and what a voxel shares between two tissues stays shared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from x2c.data.volume import Array

LOW_HU, STEP_HU, LEVELS = -1024, 2, 1536


class Tissue(IntEnum):
    """Kinds of tissue whose densities change together."""

    OTHER = 0
    LUNG = 1
    ARTERY = 2
    VEIN = 3
    HEART = 4
    AORTA = 5
    CAVA = 6
    BONE = 7
    LIVER = 8
    SPLEEN = 9
    KIDNEY = 10
    MASS = 11
    VESSEL_WALL = 12


# Medians of the scanned patient, HU.
LUNG_HU, FAT_HU, MUSCLE_HU, LIVER_HU, SPLEEN_HU, KIDNEY_HU = -885.0, -105.0, 50.0, 73.0, 174.0, 214.0
ARTERY_HU, VEIN_HU, AORTA_HU, CAVA_HU, WALL_HU, RIGHT_HEART_HU = 350.0, 350.0, 400.0, 1260.0, 110.0, 600.0
SPONGIOSA_HU, CORTEX_HU = 200.0, 900.0
BLOOD_HU = 42.0
"""HU of blood without contrast agent, at a haematocrit of about 40 %."""


@dataclass(frozen=True)
class Densities:
    """A patient's medians, HU; blood's are from the moment of the scan."""

    lung: float
    fat: float
    muscle: float
    spongiosa: float
    liver: float
    spleen: float
    kidney: float
    artery: float
    vein: float
    aorta: float
    cava: float
    wall: float
    mass: float

    def without_contrast(self) -> Densities:
        """Return the same patient before any injection."""
        blood = dict.fromkeys(("artery", "vein", "aorta", "cava"), BLOOD_HU)
        return replace(self, liver=58.0, spleen=50.0, kidney=32.0, wall=45.0, **blood)

    def anchors(self) -> dict[Tissue, list[tuple[float, float]]]:
        """Return for each tissue pairs of HU, scanned and the patient's own, joined by straight lines."""
        air = (-1024.0, -1024.0)
        lung, fat, muscle = (LUNG_HU, self.lung), (FAT_HU, self.fat), (MUSCLE_HU, self.muscle)
        soft = [air, (-400.0, -400.0), fat, muscle]
        return {
            Tissue.OTHER: [*soft, (250.0, 250.0), (2046.0, 1600.0)],
            # Vessels too small to be told apart are half arteries, half veins.
            Tissue.LUNG: [air, lung, (ARTERY_HU, (self.artery + self.vein) / 2)],
            Tissue.ARTERY: [air, lung, (ARTERY_HU, self.artery), (600.0, self.artery + 30)],
            Tissue.VEIN: [air, lung, (VEIN_HU, self.vein), (600.0, self.vein + 30)],
            # Contrast agent arrives in the right heart undiluted, and streaks.
            Tissue.HEART: [
                *soft,
                (WALL_HU, self.wall),
                (VEIN_HU, self.vein),
                (RIGHT_HEART_HU, self.artery + 20),
                (2046.0, self.artery + 60),
            ],
            Tissue.AORTA: [*soft, (AORTA_HU, self.aorta), (600.0, self.aorta + 40), (2046.0, 900.0)],
            Tissue.CAVA: [*soft, (CAVA_HU, self.cava), (2046.0, self.cava)],
            Tissue.BONE: [*soft, (SPONGIOSA_HU, self.spongiosa), (CORTEX_HU, CORTEX_HU), (2046.0, 1300.0)],
            Tissue.LIVER: [*soft[:3], (LIVER_HU, self.liver), (300.0, self.liver + 80)],
            Tissue.SPLEEN: [*soft[:3], (SPLEEN_HU, self.spleen), (400.0, self.spleen + 60)],
            Tissue.KIDNEY: [*soft, (KIDNEY_HU, self.kidney), (500.0, self.kidney + 60)],
            Tissue.MASS: [air, lung, (40.0, self.mass), (400.0, self.mass + 40)],
            Tissue.VESSEL_WALL: [*soft, (ARTERY_HU, self.artery), (2046.0, self.artery + 60)],
        }


def encode(hu: Array, tissue: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return HU and Tissue of voxels, any shape, as one number each."""
    level = np.clip((hu - LOW_HU) / STEP_HU, 0, LEVELS - 1).astype(np.uint16)
    return tissue.astype(np.uint16) * np.uint16(LEVELS) + level


def palette(densities: Densities) -> Array:
    """Return the patient's HU, float32, for every number that `encode` returns."""
    hu = LOW_HU + STEP_HU * (np.arange(LEVELS) + 0.5)
    anchors = densities.anchors()
    lines = []
    for tissue in Tissue:
        typical, own = zip(*anchors[tissue], strict=True)
        lines.append(np.interp(hu, typical, own))
    return np.concatenate(lines).astype(np.float32)
