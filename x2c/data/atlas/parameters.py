"""Parameters that vary between the atlas's patients: size, shape, disease, densities, and posture.

Ranges are of adults, relative to the scanned one: lungs of 3.7 l at full inspiration, 260 × 187 × 250 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data import embolism as embolisms
from x2c.data.atlas.tissues import BLOOD_HU, Densities
from x2c.data.phantom.parameters import clipped, generator, one_sided

SIZE = (0.84, 1.16)
"""Relative height, depth and width: adults' lung capacities differ by a factor of two, their cube roots by a fourth."""
FAT_MM = (-6.0, 24.0)
"""Subcutaneous fat relative to the scanned patient's, who is slim: about 8 to 38 mm on the chest."""
RAISED_MM = (14.0, 42.0)
"""Height by which a paretic or pushed-up hemidiaphragm is raised: up to two ribs."""
SHIFT_MM = 22.0
"""Largest mediastinal shift: more is tension or a lost lung."""
HEART = (-0.08, 0.26)
"""Linear growth of the heart: a cardiothoracic ratio from about .40 to .60."""
HEART_GROWTH = 0.2
"""Part of that growth per dilation of the right ventricle: healthy hearts vary less here than the phantom's."""
CT_BREATH_MM, XRAY_BREATH_MM = (-34.0, -6.0), (-14.0, 4.0)
"""Way of the diaphragm down from the scanned full inspiration. Breath is held less deep lying, and on command it is mid-
way; a chest X-ray is taken at full inspiration, which not all manage."""
ROUGH_MM, FINE_MM = 5.5, 1.4
"""Standard deviation of the random field, at 40 and at 20 mm, for variation without a named mode."""


@dataclass(frozen=True)
class Disease:
    """Effusions in ml and their density; clot_burden, rv_dilation and oligaemia from 0 to 1."""

    embolism: bool
    clot_burden: float
    rv_dilation: float
    oligaemia: float
    effusion_right_ml: float
    effusion_left_ml: float
    fluid_hu: float
    tumour: bool
    """Whether the left lower lobe has the scanned patient's tumour; otherwise it is lung."""


@dataclass(frozen=True)
class Parameters:
    """One patient. size: relative (z, y, x). weights: of every mode but breath, see `modes.MODES`."""

    female: bool
    size: tuple[float, float, float]
    weights: dict[str, float]
    disease: Disease
    densities: Densities

    def flat(self) -> dict[str, float | bool]:
        """Return the columns of a manifest."""
        named = {f"size_{axis}": value for axis, value in zip("zyx", self.size, strict=True)}
        modes = {f"{name}_mm" if name not in ("heart_growth", "taper") else name: v for name, v in self.weights.items()}
        densities = {f"{name}_hu": value for name, value in vars(self.densities).items()}
        return {"female": self.female, **named, **modes, **vars(self.disease), **densities}


@dataclass(frozen=True)
class Pose:
    """Pose of a patient in imaging: degrees, mm (z, y, x); breath_mm: descent of the diaphragm from the scan's."""

    rotation_deg: float
    tilt_deg: float
    lean_deg: float
    shift_mm: tuple[float, float, float]
    breath_mm: float
    upright: bool
    contrast: bool

    def flat(self) -> dict[str, float | bool]:
        """Return the columns of a manifest."""
        shift = {f"shift_{axis}_mm": mm for axis, mm in zip("zyx", self.shift_mm, strict=True)}
        return {**{name: value for name, value in vars(self).items() if name != "shift_mm"}, **shift}


def sample_parameters(patient_id: str, cohort_seed: int) -> Parameters:
    """Draw a patient."""
    rng = generator(patient_id, cohort_seed, "atlas parameters")
    female = bool(rng.random() < 0.5)
    overall = rng.normal(0, 0.05) + (-0.035 if female else 0.035)
    size = tuple(float(np.clip(np.exp(overall + rng.normal(0, sd)), *SIZE)) for sd in (0.045, 0.05, 0.035))
    enlarged = bool(rng.random() < 0.3)
    disease = _disease(rng, enlarged, float(np.prod(size)))
    return Parameters(
        female, (size[0], size[1], size[2]), _weights(rng, female, enlarged, disease), disease, _densities(rng, disease)
    )


def _disease(rng: np.random.Generator, enlarged: bool, roominess: float) -> Disease:
    embolism = embolisms.draw(rng)
    chance = embolisms.effusion_chance(embolism.present, enlarged)
    right, left = (roominess * one_sided(rng, chance, 150, most) * rng.uniform(0.4, 1) for most in (1300, 1100))
    return Disease(
        embolism=embolism.present,
        clot_burden=embolism.burden,
        rv_dilation=embolism.rv_dilation,
        oligaemia=embolism.oligaemia,
        effusion_right_ml=float(right),
        effusion_left_ml=float(left),
        fluid_hu=float(rng.uniform(5, 25)),
        tumour=bool(rng.random() < 0.08),
    )


def _weights(rng: np.random.Generator, female: bool, enlarged: bool, disease: Disease) -> dict[str, float]:
    obesity = rng.gamma(2.2, 0.5)
    collapse = one_sided(rng, 0.12, 8, 18) * (1 if rng.random() < 0.5 else -1)
    # Fluid pushes the mediastinum away.
    pushed = 0.008 * (disease.effusion_right_ml - disease.effusion_left_ml)
    growth = rng.normal(0.02, 0.03) + (rng.uniform(0.08, 0.2) if enlarged else 0.0)
    growth += HEART_GROWTH * disease.rv_dilation
    return {
        "raised_right": one_sided(rng, 0.16, *RAISED_MM),
        "raised_left": one_sided(rng, 0.16, *RAISED_MM),
        "mediastinal_shift": float(np.clip(rng.normal(0, 3) + collapse + pushed, -SHIFT_MM, SHIFT_MM)),
        "heart_growth": float(np.clip(growth, *HEART)),
        "fat": float(np.clip(-6 + 10 * obesity + rng.normal(0, 2), *FAT_MM)),
        "breast": float(np.clip(rng.normal(6 + 6 * obesity, 5), 0, 24)) if female else 0.0,
        "kyphosis": clipped(rng, 2, 6, -10, 16),
        "scoliosis": clipped(rng, 0, 4, -12, 12),
        "taper": clipped(rng, 0, 0.03, -0.07, 0.07),
    }


def _densities(rng: np.random.Generator, disease: Disease) -> Densities:
    right = float(rng.uniform(330, 450))
    return Densities(
        lung=clipped(rng, -850, 24, -905, -790),
        fat=clipped(rng, -103, 6, -118, -88),
        muscle=clipped(rng, 50, 8, 30, 66),
        spongiosa=clipped(rng, 190, 45, 90, 310),
        liver=clipped(rng, 78, 16, 30, 115),
        spleen=clipped(rng, 120, 25, 70, 180),
        kidney=clipped(rng, 170, 30, 110, 230),
        artery=right,
        vein=embolisms.passed_on(rng.uniform(230, 340), disease.rv_dilation, BLOOD_HU),
        aorta=embolisms.passed_on(rng.uniform(180, 330), disease.rv_dilation, BLOOD_HU),
        cava=right + float(rng.uniform(80, 400)),
        wall=clipped(rng, 100, 10, 80, 120),
        mass=42.0 if disease.tumour else -850.0,
    )


def ct_pose(patient_id: str, cohort_seed: int, contrast: bool = True) -> Pose:
    """Draw a pose for CT: supine on the table, arms up, injected or not, breath held somewhere."""
    rng = generator(patient_id, cohort_seed, "atlas ct pose")
    return Pose(
        rotation_deg=clipped(rng, 0, 2.0, -7, 7),
        tilt_deg=clipped(rng, 0, 1.5, -5, 5),
        lean_deg=clipped(rng, 0, 1.0, -4, 4),
        shift_mm=(clipped(rng, 0, 3, -8, 8), clipped(rng, 0, 3, -8, 8), clipped(rng, 0, 3, -8, 8)),
        breath_mm=float(rng.uniform(*CT_BREATH_MM)),
        upright=False,
        contrast=contrast,
    )


def radiograph_pose(patient_id: str, cohort_seed: int) -> Pose:
    """Draw a pose for the radiograph: mostly standing, on another day, with other turn, tilt and breath, uninjected."""
    rng = generator(patient_id, cohort_seed, "atlas radiograph pose")
    upright = bool(rng.random() < 0.7)
    return Pose(
        rotation_deg=clipped(rng, 0, 3.5, -10, 10),
        tilt_deg=clipped(rng, 2, 3.0, -6, 9),
        lean_deg=clipped(rng, 0, 2.0, -6, 6),
        shift_mm=(clipped(rng, 0, 6, -15, 15), clipped(rng, 0, 5, -12, 12), clipped(rng, 0, 6, -15, 15)),
        breath_mm=float(rng.uniform(*XRAY_BREATH_MM)) - (0 if upright else 8),
        upright=upright,
        contrast=False,
    )
