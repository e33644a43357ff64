"""The pulmonary arteries of the atlas's CT, which its labels lack.

How they were found. All that is bright in lungs and hila and hangs together with the heart is vessel. Arteries are told
from veins by which root is nearer along the vessels, wide ways counting as short. The roots: of the arteries, the
pulmonary trunk with its right and left branch, which the label `heart` covers above the left atrium, and the arteries
beside the lower lobes' bronchi, marked by eye; of the veins, the label `pulmonary_vein`, the left atrium with its
appendage, and the confluences of the lower veins, marked by eye. It was looked at slice by slice: to the segmental
arteries it holds; farther out, arteries and veins are mixed up here and there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from x2c.data.volume import Array, Triple

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

# Voxels (z, y, x) of the upright CT at half its resolution in plane, [133, 256, 256].
TRUNK_ABOVE, RIGHT_BRANCH_ABOVE, ATRIUM_BELOW, VALVES_ABOVE, VENTRICLES_BELOW = 79, 75, 71, 58, 70
RIGHT_OF, BEHIND = 112, 118
ARTERY_SEEDS = (
    *((61, 155, 92), (61, 150, 83), (63, 151, 91), (66, 146, 91), (68, 144, 92)),
    *((69, 163, 152), (73, 160, 153), (73, 155, 163), (75, 158, 153), (75, 153, 159)),
)
VEIN_SEEDS = (
    *((61, 146, 101), (63, 144, 106), (65, 146, 107)),
    *((67, 154, 151), (69, 153, 149), (71, 150, 149), (71, 150, 164)),
)
OUTFLOW = (71, 89, 149)
"""Voxel of the end of the right ventricle, where the trunk begins: the arteries' first node."""
SEED_MM = 3.0
IN_LUNG_HU, IN_HILUM_HU = -450.0, 260.0
"""HU above which a voxel is a vessel. The lung has little else; in the hilum, vessels' walls must be excluded."""
SHELL_MM = 5.0
"""Length of a node along the tree."""


@dataclass(frozen=True)
class Vessels:
    """Masks [D, H, W]: arteries (with the trunk), veins (with the left atrium), and a mass in the left lung."""

    arteries: Mask
    veins: Mask
    mass: Mask


@dataclass(frozen=True)
class ArterialTree:
    """The arteries in short pieces (nodes), from the trunk outward.

    at [M, 3]: voxels; node [M]: whose they are; off_axis [M]: 0 in a node's middle, 1 at its wall. By node, [K]: its
    parent (-1: a root), radius and distance from the right ventricle, mm.
    """

    at: Numbers
    node: Numbers
    off_axis: Array
    parent: Numbers
    radius_mm: Array
    distance_mm: Array


def find_vessels(
    hu: Array, lungs: Mask, heart: Mask, veins: Mask, walls: Mask, others: Mask, spacing: Triple
) -> Vessels:
    """Return arteries and veins of a CT [D, H, W] with some known labels; `walls` keeps aorta and cava out."""
    z, y, x = np.ogrid[tuple(slice(n) for n in hu.shape)]
    blood = heart & (hu > 250)
    trunk = blood & ((z >= TRUNK_ABOVE) | ((z >= RIGHT_BRANCH_ABOVE) & (x < RIGHT_OF) & (y > BEHIND)))
    atrium = blood & (z >= VALVES_ABOVE) & (z <= ATRIUM_BELOW) & (y > BEHIND)
    roots = trunk | atrium | veins
    near = within(roots, 25, spacing)
    barrier = within(walls, 2.1, spacing)
    chest = ndimage.binary_closing(lungs, iterations=4)
    hilum = within(lungs, 8, spacing) & near & ~others & (hu > IN_HILUM_HU) & ~barrier & ~lungs & ~heart
    depth = ndimage.distance_transform_edt(chest | near, sampling=spacing)
    lung = chest & (hu > IN_LUNG_HU) & ~others & ~barrier & ~heart & (depth > 4)
    mass = ndimage.binary_opening(lung & ~near, iterations=3)
    mass = ndimage.binary_dilation(mass, iterations=4) & chest & ~others
    outflow = heart & (hu > 300) & (z >= VENTRICLES_BELOW) & (z < TRUNK_ABOVE) & ((y <= BEHIND) | (z > ATRIUM_BELOW))
    vessels = (roots | hilum | lung | outflow) & ~mass
    parts, _ = ndimage.label(vessels, np.ones((3, 3, 3)))
    vessels &= np.isin(parts, np.setdiff1d(parts[roots & vessels], 0))
    graph, index = _graph(vessels, spacing, widening=3)
    of_arteries = trunk | _spheres(ARTERY_SEEDS, hu.shape, spacing)
    of_veins = (atrium | veins | _spheres(VEIN_SEEDS, hu.shape, spacing)) & ~of_arteries
    to_artery, to_vein = (
        dijkstra(graph, directed=False, indices=index[root & vessels], min_only=True)
        for root in (of_arteries, of_veins)
    )
    arteries = np.zeros_like(vessels)
    arteries[vessels] = to_artery < to_vein
    return Vessels(arteries, vessels & ~arteries, mass)


def within(mask: Mask, mm: float, spacing: Triple) -> Mask:
    """Return voxels no farther than `mm` from a mask [D, H, W]."""
    near = np.zeros_like(mask)
    if mask.any():
        box = around(mask, mm, spacing)
        near[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= mm
    return near


def around(mask: Mask, mm: float, spacing: Triple) -> tuple[slice, ...]:
    """Return the box of a mask [D, H, W] with a margin."""
    (box,) = ndimage.find_objects(mask.view(np.int8))
    margins = [int(mm / s) + 1 for s in spacing]
    return tuple(slice(max(part.start - m, 0), part.stop + m) for part, m in zip(box, margins, strict=True))


def _even(values: Array, mask: Mask) -> Array:
    """Return values [D, H, W] smoothed by about a voxel, within a mask."""
    weight = np.maximum(ndimage.gaussian_filter(mask.astype(np.float32), 0.7), 1e-6)
    evened: Array = ndimage.gaussian_filter(np.where(mask, values, 0).astype(np.float32), 0.7) / weight
    return evened


def _spheres(seeds: tuple[tuple[int, int, int], ...], shape: tuple[int, ...], spacing: Triple) -> Mask:
    points = np.zeros(shape, dtype=bool)
    points[tuple(np.array(seeds).T)] = True
    return within(points, SEED_MM, spacing)


def _graph(mask: Mask, spacing: Triple, widening: float) -> tuple[csr_matrix, Numbers]:
    """The mask's voxels joined to their neighbours by mm / radius ** widening; and [D, H, W]: voxel -> vertex."""
    points = np.argwhere(mask)
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(len(points))
    radius = ndimage.distance_transform_edt(mask, sampling=spacing)[mask]
    rows, columns, costs = [], [], []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if offset <= (0, 0, 0):
            continue
        other = points + offset
        inside = np.flatnonzero(((other >= 0) & (other < mask.shape)).all(1))
        vertex = index[tuple(other[inside].T)]
        inside, vertex = inside[vertex >= 0], vertex[vertex >= 0]
        length = float(np.linalg.norm(np.multiply(offset, spacing)))
        rows.append(inside)
        columns.append(vertex)
        costs.append(length / ((radius[inside] + radius[vertex]) / 2) ** widening)
    joined = (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix((np.concatenate(costs), joined), shape=(len(points),) * 2).tocsr(), index


def grow_tree(arteries: Mask, spacing: Triple) -> ArterialTree:
    """Cut the arteries [D, H, W] of the unpadded scan into nodes: connected parts of shells of like distance from the
    right ventricle."""
    graph, index = _graph(arteries, spacing, widening=0)
    at = np.argwhere(arteries)
    radius = _even(ndimage.distance_transform_edt(arteries, sampling=spacing), arteries)[arteries]
    start = index[arteries & _spheres((OUTFLOW,), arteries.shape, spacing)]
    distance, before, _ = dijkstra(graph, directed=False, indices=start, min_only=True, return_predecessors=True)
    reached = np.flatnonzero(np.isfinite(distance))
    shell = np.full(len(at), -1)
    shell[reached] = (distance[reached] / SHELL_MM).astype(int)
    edges = graph.tocoo()
    same = (shell[edges.row] == shell[edges.col]) & (shell[edges.row] >= 0)
    inside = coo_matrix((np.ones(same.sum()), (edges.row[same], edges.col[same])), shape=graph.shape)
    _, part = connected_components(inside, directed=False)
    _, node = np.unique(part[reached], return_inverse=True)
    count = int(node.max()) + 1
    of_voxel = np.full(len(at), -1)
    of_voxel[reached] = node
    # A node's parent is the node from which its first-reached voxel was reached.
    order = np.argsort(distance[reached])
    _, earliest = np.unique(node[order], return_index=True)
    first = reached[order[earliest]]
    origin = before[first]
    parent = np.where(origin >= 0, of_voxel[origin], -1)
    widest = np.zeros(count)
    np.maximum.at(widest, node, radius[reached])
    off_axis = np.clip(1 - (radius[reached] - 0.7) / np.maximum(widest[node] - 0.7, 0.7), 0, 1)
    return ArterialTree(
        at[reached],
        node,
        off_axis.astype(np.float32),
        parent,
        widest.astype(np.float32),
        distance[first].astype(np.float32),
    )
