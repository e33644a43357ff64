"""Modes of variation and breathing of chests: velocity fields on the template's lattice, with names and units.

A patient is the template moved along a weighted sum of these fields and a random smooth one. A weight is the distance,
in mm unless stated otherwise, that the place moves at which the field is strongest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from x2c.data.smoothstep import smoothstep
from x2c.data.volume import Array, Triple

Mask = NDArray[np.bool_]
MODES = (
    "breath",
    "raised_right",
    "raised_left",
    "mediastinal_shift",
    "heart_growth",
    "fat",
    "breast",
    "kyphosis",
    "scoliosis",
    "taper",
)
"""breath: caudal way of the diaphragm. raised_*: cranial way of a hemidiaphragm. mediastinal_shift: to the left.
heart_growth, taper: no mm, relative. fat, breast: thickness added under the skin. kyphosis: forward way of the thorax's
ends. scoliosis: sideways way of the spine."""

RIB_MM = 16.0
"""Distance from ribs and skin over which the diaphragm's motion starts, across its way, where it shears and squeezes
nothing."""
ALONG_MM = 22.0
"""Distance over which it starts along its way, equally smooth."""


@dataclass(frozen=True)
class Landmarks:
    """Masks on the template's grid [D, H, W], and its coordinates: mm from the middle of the lungs' box."""

    rigid: Mask
    """Bone, which neither breath nor heart moves."""
    body: Mask
    lungs: Mask
    heart: Mask
    axes: tuple[Array, Array, Array]
    spacing: Triple


def lattice_axes(axes: tuple[Array, Array, Array], spacing_mm: float) -> tuple[Array, Array, Array]:
    """Coordinates, mm, of nodes about `spacing_mm` apart that span the first voxel to the last."""
    z, y, x = (np.linspace(a[0], a[-1], round(float(a[-1] - a[0]) / spacing_mm) + 1, dtype=np.float32) for a in axes)
    return z, y, x


def to_lattice(values: Array, axes: tuple[Array, Array, Array], lattice: tuple[Array, Array, Array]) -> Array:
    """Values on the template's grid at the lattice's nodes, averaged over about a node's cell first."""
    widths = [0.4 * (b[1] - b[0]) / (a[1] - a[0]) for a, b in zip(axes, lattice, strict=True)]
    smooth = ndimage.gaussian_filter(values.astype(np.float32), widths)
    at = np.meshgrid(*[(b - a[0]) / (a[1] - a[0]) for a, b in zip(axes, lattice, strict=True)], indexing="ij")
    nodes: Array = ndimage.map_coordinates(smooth, at, order=1, mode="nearest").astype(np.float32)
    return nodes


def anatomical_modes(marks: Landmarks, lattice: tuple[Array, Array, Array]) -> Array:
    """The fields [len(MODES), 3, d, h, w] as velocities (z, y, x) that move anatomy, for a weight of 1."""
    z, y, x = (a.astype(np.float32) for a in np.meshgrid(*lattice, indexing="ij"))
    tops, bottoms = _lung_ends(marks)
    top, bottom = max(tops), min(bottoms)
    dome = _dome(marks)
    loose = to_lattice(
        smoothstep(ndimage.distance_transform_edt(marks.body & ~marks.rigid, sampling=marks.spacing) / RIB_MM),
        marks.axes,
        lattice,
    )
    zero = np.zeros_like(z)
    below = smoothstep((top - z) / (top - dome))
    loose = ndimage.gaussian_filter(loose, (ALONG_MM / (lattice[0][1] - lattice[0][0]), 0.5, 0.5))
    caudal = loose * below * (1 - 0.35 * smoothstep((dome - z) / (dome - z.min())))
    front = smoothstep((40 - y) / 120) * smoothstep((z.max() - z) / (z.max() - dome))
    outward_breath = 0.10 * smoothstep((top - z) / 150) * np.clip(x / 120, -1, 1)
    fields: dict[str, tuple[Array, Array, Array]] = {"breath": (-caudal, -0.16 * front, outward_breath)}

    near_dome = smoothstep((0.45 * top + 0.55 * dome + 60 - z) / 110) * (1 - 0.5 * smoothstep((dome - z) / 130))
    for side, name in ((-1, "raised_right"), (1, "raised_left")):
        fields[name] = (loose * near_dome * smoothstep((side * x + 5) / 50), zero, zero)

    heart = ndimage.center_of_mass(marks.heart)
    cz, cy, cx = (float(np.interp(i, np.arange(len(a)), a)) for i, a in zip(heart, marks.axes, strict=True))
    height = smoothstep((top - 20 - z) / 90) * smoothstep((z - dome + 70) / 60)
    fields["mediastinal_shift"] = (zero, zero, loose * height * np.exp(-(((x - 0.5 * cx) / 62) ** 2)))
    around = loose * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * 52**2))
    fields["heart_growth"] = ((z - cz) * around, (y - cy) * around, (x - cx) * around)

    inward = ndimage.distance_transform_edt(marks.body, sampling=marks.spacing)
    outward = ndimage.distance_transform_edt(~marks.body, sampling=marks.spacing)
    # The air around gives way within some distance, or corners of the box would be squeezed.
    skin = to_lattice(smoothstep(1 - inward / 26) * smoothstep(1 - outward / 90), marks.axes, lattice)
    slope = np.gradient(ndimage.gaussian_filter(to_lattice(outward - inward, marks.axes, lattice), 2), *lattice)
    steep = np.sqrt(slope[1] ** 2 + slope[2] ** 2) + 0.15
    fields["fat"] = (zero, skin * slope[1] / steep, skin * slope[2] / steep)
    bumps = np.exp(-(((z + 10) / 42) ** 2) - ((np.abs(x) - 78) / 40) ** 2)
    fields["breast"] = (-0.35 * skin * bumps * (y < 0), -skin * bumps * smoothstep(-y / 60), zero)

    half = (top - bottom) / 2
    fields["kyphosis"] = (zero, -((z / half) ** 2), zero)
    fields["scoliosis"] = (zero, zero, np.sin(np.pi * (z + 20) / half))
    fields["taper"] = (zero, y * np.clip(z / half, -1.3, 1.3), x * np.clip(z / half, -1.3, 1.3))
    return np.stack([np.stack(fields[name]) for name in MODES]).astype(np.float32)


def _lung_ends(marks: Landmarks) -> tuple[list[float], list[float]]:
    """z of the right and the left lung's highest and lowest voxel, mm."""
    right = (marks.axes[2] < 0)[None, None]
    rows = [np.flatnonzero((marks.lungs & side).any((1, 2))) for side in (right, ~right)]
    return [float(marks.axes[0][r[-1]]) for r in rows], [float(marks.axes[0][r[0]]) for r in rows]


def _dome(marks: Landmarks) -> float:
    """z of the diaphragm's domes, mm: the lowest level at which the heart still is."""
    return float(marks.axes[0][np.flatnonzero(marks.heart.any((1, 2)))[0]])
