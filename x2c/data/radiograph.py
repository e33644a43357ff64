"""From line integrals to the picture a reader sees: Beer-Lambert, noise, blur, logarithm, display."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from x2c.data.volume import Array


@dataclass(frozen=True)
class Detector:
    """photons: quanta a pixel in air (0: noiseless); electronic_noise: sigma, quanta; blur_px: sigma."""

    photons: float = 60_000.0
    electronic_noise: float = 4.0
    blur_px: float = 0.5


def expose(integrals: Array, detector: Detector, rng: np.random.Generator) -> Array:
    """Line integrals [h, w] to the logged detector signal [h, w]: the same integrals, with noise and blur."""
    transmitted = np.exp(-integrals.astype(np.float64))
    if detector.photons > 0:
        quanta = rng.poisson(transmitted * detector.photons) + rng.normal(0, detector.electronic_noise, integrals.shape)
        transmitted = quanta / detector.photons
    if detector.blur_px > 0:
        transmitted = ndimage.gaussian_filter(transmitted, detector.blur_px, mode="nearest")
    # Half a quantum is the least a counting detector can report; the log needs some floor.
    floor = 0.5 / detector.photons if detector.photons > 0 else 1e-12
    return -np.log(np.maximum(transmitted, floor)).astype(np.float32)


def display(signal: Array, compression: float = 0.65, dark: float = 0.02, bright: float = 0.995) -> Array:
    """A logged signal [h, w] as a reader sees it, in [0, 1]: lung dark, bone bright (MONOCHROME2).

    As digital radiography systems do, the slow component is compressed so that ribs show beside the
    mediastinum, and the rest is stretched between two quantiles of what the beam passed through, leaving out
    the air beside the patient.
    """
    exposed = signal > 0.25
    if not exposed.any():
        return np.zeros_like(signal)
    slow = ndimage.gaussian_filter(signal, signal.shape[0] / 9, mode="nearest")
    shown = signal - compression * (slow - slow[exposed].mean())
    low, high = np.quantile(shown[exposed], (dark, bright))
    return np.where(exposed, np.clip((shown - low) / max(high - low, 1e-6), 0, 1), 0).astype(np.float32)
