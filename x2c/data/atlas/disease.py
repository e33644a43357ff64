"""Emboli in the template's arteries and fluid around its lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from x2c.data.atlas.deformation import Placement
from x2c.data.atlas.parameters import Disease
from x2c.data.atlas.template import Template
from x2c.data.smoothstep import smoothstep
from x2c.data.volume import Array

CLOT_HU = 45.0
"""HU of a fresh clot; with what surrounds it within a voxel 30 to 60 HU."""
CENTRAL_MM, LOBAR_MM, SEGMENTAL_MM = 6.0, 3.4, 1.8
"""Smallest radii of arteries: farther out an artery may be a vein by mistake, and is not changed."""
TRUNK_MM = 72.0
"""Length of the pulmonary trunk from the right ventricle to its fork: clots within it are swept on."""
CHANCES = {"central": 0.6, "lobar": 1.0, "segmental": 0.8}
"""Relative chances that clots lodge: lobar and segmental arteries first."""
MENISCUS_MM, MENISCUS_REACH_MM = {True: 40.0, False: 22.0}, {True: 22.0, False: 12.0}
"""Height by which fluid is raised at the pleura, and distance from it over which this fades: upright and lying."""
ATELECTASIS_MM, ATELECTASIS_HU = 9.0, -250.0


@dataclass(frozen=True)
class Clots:
    """For every artery voxel [M]: the share of it that is clot, and the blood flow left in it (1: healthy)."""

    share: Array
    flow: Array


def lodge(template: Template, disease: Disease, rng: np.random.Generator) -> Clots:
    """Lodge clots at random places from the main arteries to the segmental ones; more with a greater burden."""
    parent = np.asarray(template.node_parent)
    radius, distance = np.asarray(template.node_radius_mm), np.asarray(template.node_distance_mm)
    fill, flow = np.zeros(len(parent), dtype=np.float32), np.ones(len(parent), dtype=np.float32)
    if disease.embolism:
        for site in _sites(template, disease.clot_burden, rng):
            length, filled = rng.uniform(2, 7) * radius[site] + 6, rng.uniform(0.55, 1.1)
            if radius[site] >= CENTRAL_MM:
                # Clots in the main arteries are strands that blood flows around.
                filled = rng.uniform(0.4, 0.75)
            beyond = _downstream(parent, distance, site)
            reached = beyond & (distance < distance[site] + length) & (radius >= SEGMENTAL_MM * 0.7)
            fill[reached] = np.maximum(fill[reached], filled)
            flow[beyond] *= 1 - disease.oligaemia * min(filled, 1.0)
    of_voxel = np.asarray(template.artery_node)
    share = np.clip((fill[of_voxel] - template.artery_off_axis) / 0.25 + 0.5, 0, 1) * (fill[of_voxel] > 0)
    return Clots(share.astype(np.float32), flow[of_voxel])


def _sites(template: Template, burden: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the nodes where clots begin."""
    radius, distance = np.asarray(template.node_radius_mm), np.asarray(template.node_distance_mm)
    past_trunk = distance > TRUNK_MM
    kinds = {
        "central": radius >= CENTRAL_MM,
        "lobar": (radius >= LOBAR_MM) & (radius < CENTRAL_MM),
        "segmental": (radius >= SEGMENTAL_MM) & (radius < LOBAR_MM),
    }
    weight = np.zeros(len(radius))
    for kind, members in kinds.items():
        members = members & past_trunk
        # Small burdens are peripheral ones.
        readiness = CHANCES[kind] * (burden if kind == "central" else 1.0)
        weight[members] = readiness / max(int(members.sum()), 1)
    count = 1 + rng.poisson(9 * burden)
    return rng.choice(len(radius), size=count, p=weight / weight.sum())


def _downstream(parent: NDArray[np.int32], distance: Array, site: int) -> NDArray[np.bool_]:
    """Return the nodes that a node feeds, itself included."""
    fed = np.zeros(len(parent), dtype=bool)
    fed[site] = True
    for node in np.argsort(distance, kind="stable"):
        fed[node] |= parent[node] >= 0 and fed[parent[node]]
    return fed


def paint_clots(hu: Array, template: Template, clots: Clots, artery_hu: float, lung_hu: float) -> None:
    """Replace contrast by clot in a flat volume of the template, and narrow the small arteries beyond."""
    at = np.asarray(template.artery_at)
    values = hu[at]
    # Voxels brighter than half-filled blood are bright by noise and the vessel's wall, and contain no lung.
    blood = np.clip((values - lung_hu) / (0.5 * artery_hu - lung_hu), 0, 1)
    thin = np.asarray(template.node_radius_mm)[np.asarray(template.artery_node)] < LOBAR_MM
    values += np.where(thin, 0.6 * (1 - clots.flow), 0) * (lung_hu - values)
    # A voxel that the artery shares with lung is shared by the clot as well.
    values += clots.share * (lung_hu + blood * (CLOT_HU - lung_hu) - values)
    hu[at] = values


def settling(template: Template, rows: NDArray[np.int64], placement: Placement, upright: bool) -> Array:
    """Return the height against gravity, mm, up to which pleural fluid must rise to reach given voxels of the lungs.

    Lung floats in fluid and the chest wall draws it up: near the pleura it stands higher, a meniscus. Lying, fluid
    gathers at the back and the base.
    """
    z, y, _ = placement.to_scanner(template.lung_mm[rows]).T.astype(np.float32)
    meniscus = MENISCUS_MM[upright] * np.exp(-template.lung_wall_mm[rows] / MENISCUS_REACH_MM[upright])
    height: Array = (z - 0.15 * y if upright else 0.3 * z - y) - meniscus
    return height


def paint_effusions(
    hu: Array,
    template: Template,
    disease: Disease,
    placement: Placement,
    upright: bool,
    lung_ml: tuple[float, float],
) -> None:
    """Fill the dependent pleural space of a flat volume of the template, and compress the lung next to it."""
    left = np.asarray(template.lung_left)
    for on_side, fluid_ml, total_ml in zip(
        (~left, left), (disease.effusion_right_ml, disease.effusion_left_ml), lung_ml, strict=True
    ):
        if fluid_ml == 0:
            continue
        rows = np.flatnonzero(on_side)
        height, inside, at = (
            settling(template, rows, placement, upright),
            template.lung_core[rows],
            template.lung_at[rows],
        )
        level = np.quantile(height[inside], min(fluid_ml / total_ml, 0.9))
        values = hu[at]
        collapsed = smoothstep((level + ATELECTASIS_MM - height) / 5 + 0.5) * inside
        values += collapsed * np.maximum(ATELECTASIS_HU - values, 0)
        wet = np.clip((level - height) / 2 + 0.5, 0, 1)
        # In the rim only air gives way.
        values += wet * np.where(inside, disease.fluid_hu - values, np.maximum(disease.fluid_hu - values, 0))
        hu[at] = values
