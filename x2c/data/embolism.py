"""Effects of an embolism on a virtual patient besides its clots: the signs that a CT, or an X-ray, can show.

Phantom and atlas draw them alike. The strengths are set so that an X-ray tells about as much as the paper's: a logistic
regression on the heart's width, effusions and the diaphragm's height has an AUC of .70 to .75 (the paper's X-ray
classifier .69), one on the contrast behind the lungs of a CT .85 to .90, and the clots themselves tell all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PREVALENCE = 0.34
"""Share of patients with an embolism."""
UNDERFILLED = 0.3
"""Share by which the left ventricle, which gets less blood, is narrower."""
TRANSIT = 1.0
"""Share by which contrast after the lungs falls for each dilation of the right ventricle: a strained ventricle is slow to
pass it on, so that veins, left heart and aorta are less bright (the pulmonary vein sign); by four fifths at worst."""


@dataclass(frozen=True)
class Embolism:
    """Degrees from 0 to 1, all 0 without embolism. rv_dilation: right ventricle; oligaemia: lungs beyond the clots."""

    present: bool
    burden: float
    rv_dilation: float
    oligaemia: float


def draw(rng: np.random.Generator) -> Embolism:
    """Draw whether a patient has an embolism, and its severity."""
    present = bool(rng.random() < PREVALENCE)
    burden = float(rng.beta(1.6, 1.6)) if present else 0.0
    return Embolism(present, burden, float(burden * rng.uniform(0.3, 0.8)), float(burden * rng.uniform(0.4, 0.9)))


def effusion_chance(embolism: bool, heart_enlarged: bool) -> float:
    """Return the chance of fluid around one lung."""
    return 0.15 + 0.2 * embolism + 0.12 * heart_enlarged


def passed_on(hu: float, rv_dilation: float, blood_hu: float) -> float:
    """Return the density of blood behind the lungs, HU, if it would be `hu` behind a healthy right ventricle."""
    return blood_hu + (1 - TRANSIT * rv_dilation) * (hu - blood_hu)
