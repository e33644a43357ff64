"""Cone-beam projection of a CT volume to a postero-anterior radiograph's line integrals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data.volume import Array, Volume

WATER_PER_MM = 0.0193
"""Linear attenuation of water at 70 keV, about the mean energy of a 120 kV chest exposure (NIST XCOM)."""


@dataclass(frozen=True)
class Geometry:
    """A point source behind the patient and a flat detector before the chest; lengths in mm.

    The central ray runs posterior to anterior through `centre_mm` (z, x). The detector's pixels are named by
    their size where the central ray meets it, not in the patient: a structure at distance l from it appears
    source_detector_mm / (source_detector_mm - l) times as large.
    """

    size: tuple[int, int]
    pixel_mm: tuple[float, float]
    centre_mm: tuple[float, float]
    detector_y_mm: float
    source_detector_mm: float = 1800.0


def attenuation(hu: Array) -> Array:
    """Convert HU to linear attenuation per mm; nothing is below vacuum."""
    per_mm: Array = np.maximum(hu * np.float32(WATER_PER_MM / 1000) + np.float32(WATER_PER_MM), 0)
    return per_mm


def _resampling(positions: Array, count: int, width: Array) -> Array:
    """Weights [S, P, count] that average voxels over intervals of `width` [S] voxels around positions [S, P].

    Each is a voxel's overlap with the interval, so that they sum to 1 inside the volume; at width 1 this is
    linear interpolation.
    """
    voxel = np.arange(count, dtype=np.float32)
    half = width[:, None, None] / 2
    high = np.minimum(positions[..., None] + half, voxel + 0.5)
    low = np.maximum(positions[..., None] - half, voxel - 0.5)
    weights: Array = np.maximum(high - low, 0) / (2 * half)
    return weights


def project(volume: Volume, geometry: Geometry) -> Array:
    """Line integrals [h, w] of linear attenuation; row 0 superior, column 0 patient right.

    Each coronal slice is magnified onto the detector and added: exact for a point source up to the volume's
    own interpolation, and two matrix products a slice instead of a ray march.
    """
    mu = attenuation(volume.hu)
    depth, slices, width = mu.shape
    (dz, dy, dx), (z0, y0, x0) = volume.spacing_mm, volume.origin_mm
    rows, columns = geometry.size
    above = ((rows - 1) / 2 - np.arange(rows, dtype=np.float32)) * geometry.pixel_mm[0]
    across = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) * geometry.pixel_mm[1]
    distance = y0 + dy * np.arange(slices, dtype=np.float32) - geometry.detector_y_mm
    if distance[0] < 0 or distance[-1] >= geometry.source_detector_mm:
        raise ValueError(
            f"projection: expected the volume between detector and source, "
            f"{geometry.source_detector_mm:.0f} mm apart; its slices lie "
            f"{distance[0]:.0f} to {distance[-1]:.0f} mm before the detector; move the detector"
        )
    shrink = 1 - distance / geometry.source_detector_mm
    z_positions = (geometry.centre_mm[0] + above * shrink[:, None] - z0) / dz
    x_positions = (geometry.centre_mm[1] + across * shrink[:, None] - x0) / dx
    to_rows = _resampling(z_positions, depth, np.maximum(shrink * geometry.pixel_mm[0] / dz, 1))
    to_columns = _resampling(x_positions, width, np.maximum(shrink * geometry.pixel_mm[1] / dx, 1))
    integrals = np.zeros(geometry.size, dtype=np.float32)
    for row_weights, slab, column_weights in zip(to_rows, mu.transpose(1, 0, 2), to_columns, strict=True):
        integrals += row_weights @ slab @ column_weights.T
    obliquity = np.sqrt(1 + (above[:, None] ** 2 + across**2) / geometry.source_detector_mm**2)
    return (integrals * dy * obliquity).astype(np.float32)
