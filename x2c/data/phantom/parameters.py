"""Parameters that vary from patient to patient: body, disease, contrast timing, and posture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from x2c.data import embolism as embolisms

HEART_GROWTH = 0.35
"""Share by which the heart is wider for each dilation of its right ventricle."""
BLOOD_HU = 45.0
"""HU of blood without contrast agent."""


def generator(patient_id: str, cohort_seed: int, purpose: str) -> np.random.Generator:
    """Return a random stream for each purpose, so that no part of a patient depends on how another was drawn."""
    digest = hashlib.sha256(f"{cohort_seed}/{patient_id}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


@dataclass(frozen=True)
class Pose:
    """Pose of a patient in imaging: degrees, mm (z, y, x), breath from 0 (expiration) to 1 (inspiration)."""

    rotation_deg: float
    tilt_deg: float
    lean_deg: float
    shift_mm: tuple[float, float, float]
    breath: float
    upright: bool
    contrast: bool


@dataclass(frozen=True)
class PatientParameters:
    """One patient; lengths in mm, densities in HU, effusions in ml."""

    female: bool
    cage_width_mm: float
    cage_depth_mm: float
    lung_height_mm: float
    fat_mm: float
    muscle_mm: float
    breast_mm: float
    kyphosis_mm: float
    scoliosis_mm: float
    bone_hu: float
    heart_width_mm: float
    heart_enlarged: bool
    mediastinal_shift_mm: float
    aorta_radius_mm: float
    diaphragm_raised_left_mm: float
    diaphragm_raised_right_mm: float
    lung_hu: float
    effusion_left_ml: float
    effusion_right_ml: float
    n_nodules: int
    artery_hu: float
    vein_hu: float
    aorta_hu: float
    embolism: bool
    clot_burden: float
    rv_dilation: float
    oligaemia: float


def clipped(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Return a normal draw, limited to `low` and `high`."""
    return float(np.clip(rng.normal(mean, sd), low, high))


def one_sided(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    """Return, with a chance, a value between low and high; otherwise 0."""
    drawn, value = rng.random(), rng.uniform(low, high)
    return float(value) if drawn < chance else 0.0


def sample_parameters(patient_id: str, cohort_seed: int) -> PatientParameters:
    """Draw a patient."""
    rng = generator(patient_id, cohort_seed, "parameters")
    embolism = embolisms.draw(rng)
    female = bool(rng.random() < 0.5)
    size = rng.normal(0, 1) + (-0.5 if female else 0.5)
    obesity = rng.gamma(2.2, 0.5)
    enlarged = bool(rng.random() < 0.3)
    cage_width = float(np.clip(262 + 23 * size + rng.normal(0, 6), 196, 322))
    ratio = clipped(rng, 0.455, 0.03, 0.39, 0.52) + (rng.uniform(0.08, 0.2) if enlarged else 0.0)
    sick_side = rng.random(2).tolist()
    wet = embolisms.effusion_chance(embolism.present, enlarged)
    effusion_left_ml = one_sided(rng, wet, 150, 1700) * (0.4 + 0.6 * sick_side[0])
    effusion_right_ml = one_sided(rng, wet, 150, 1900) * (0.4 + 0.6 * sick_side[1])
    collapse = one_sided(rng, 0.12, 14, 34) * (1 if rng.random() < 0.5 else -1)
    return PatientParameters(
        female=female,
        cage_width_mm=cage_width,
        cage_depth_mm=float(np.clip(170 + 19 * size + 9 * (obesity - 1) + rng.normal(0, 5), 118, 232)),
        lung_height_mm=float(np.clip(202 + 20 * size + rng.normal(0, 14), 140, 256)),
        fat_mm=float(np.clip(4 + 14 * obesity, 4, 50)),
        muscle_mm=clipped(rng, 9 if female else 13, 2.5, 5, 20),
        breast_mm=float(np.clip(rng.normal(14 + 10 * obesity, 6), 6, 46)) if female else 0.0,
        kyphosis_mm=clipped(rng, 15, 7, 3, 36),
        scoliosis_mm=clipped(rng, 0, 7, -22, 22),
        bone_hu=clipped(rng, 200, 50, 90, 320),
        heart_width_mm=cage_width * ratio * (1 + HEART_GROWTH * embolism.rv_dilation),
        heart_enlarged=enlarged,
        # Fluid pushes the mediastinum away, a lost lobe pulls it over.
        mediastinal_shift_mm=float(np.clip(collapse + 0.012 * (effusion_right_ml - effusion_left_ml), -28, 28)),
        aorta_radius_mm=clipped(rng, 14.5, 1.8, 11, 20),
        diaphragm_raised_left_mm=one_sided(rng, 0.16, 20, 60),
        diaphragm_raised_right_mm=one_sided(rng, 0.16, 20, 60),
        lung_hu=clipped(rng, -850, 28, -920, -780),
        effusion_left_ml=effusion_left_ml,
        effusion_right_ml=effusion_right_ml,
        n_nodules=int(rng.integers(1, 8)) if rng.random() < 0.25 else 0,
        artery_hu=float(rng.uniform(330, 430)),
        vein_hu=embolisms.passed_on(rng.uniform(210, 320), embolism.rv_dilation, BLOOD_HU),
        aorta_hu=embolisms.passed_on(rng.uniform(170, 310), embolism.rv_dilation, BLOOD_HU),
        embolism=embolism.present,
        clot_burden=embolism.burden,
        rv_dilation=embolism.rv_dilation,
        oligaemia=embolism.oligaemia,
    )


def ct_pose(patient_id: str, cohort_seed: int, contrast: bool = True) -> Pose:
    """Draw a pose for CT: supine on the table, injected or not, breath held somewhere."""
    rng = generator(patient_id, cohort_seed, "ct pose")
    return Pose(
        rotation_deg=clipped(rng, 0, 2.0, -7, 7),
        tilt_deg=clipped(rng, 0, 1.5, -5, 5),
        lean_deg=clipped(rng, 0, 1.0, -4, 4),
        shift_mm=(clipped(rng, 0, 3, -10, 10), clipped(rng, 0, 3, -10, 10), clipped(rng, 0, 3, -10, 10)),
        breath=float(rng.uniform(0.3, 0.8)),
        upright=False,
        contrast=contrast,
    )


def radiograph_pose(patient_id: str, cohort_seed: int) -> Pose:
    """Draw a pose for the radiograph: mostly standing, on another day, with other turn, tilt and breath, uninjected."""
    rng = generator(patient_id, cohort_seed, "radiograph pose")
    return Pose(
        rotation_deg=clipped(rng, 0, 4.0, -12, 12),
        tilt_deg=clipped(rng, 3, 3.5, -7, 11),
        lean_deg=clipped(rng, 0, 2.0, -6, 6),
        shift_mm=(clipped(rng, 0, 6, -18, 18), clipped(rng, 0, 5, -12, 12), clipped(rng, 0, 6, -18, 18)),
        breath=float(rng.uniform(0.4, 1.0)),
        upright=bool(rng.random() < 0.7),
        contrast=False,
    )
