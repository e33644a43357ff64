"""Branching pulmonary arteries with emboli, pulmonary veins, aorta, airways: all as tapered capsules."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from x2c.data.phantom.canvas import Frame, Matrix
from x2c.data.phantom.parameters import PatientParameters
from x2c.data.phantom.thorax import Thorax


class Segments:
    """Capsules in soft coordinates: start and end points (mm; z, y, x), first and last radius (mm)."""

    def __init__(self) -> None:
        self._parts: list[tuple[Matrix, Matrix, Matrix]] = []

    def paths(self, points: Matrix, first: Matrix, last: Matrix) -> None:
        """Add polylines [K, N, 3] whose radii taper linearly from first [K] to last [K]."""
        radii = np.linspace(first, last, points.shape[1], axis=1)
        ends = np.stack([radii[:, :-1], radii[:, 1:]], axis=2)
        self._parts.append((points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3), ends.reshape(-1, 2)))

    def path(self, points: Matrix, first: float, last: float) -> None:
        """Add one polyline [N, 3]."""
        self.paths(points[None], np.array([first]), np.array([last]))

    def __len__(self) -> int:
        return sum(len(starts) for starts, _, _ in self._parts)

    def arrays(self) -> tuple[Matrix, Matrix, Matrix]:
        """Starts [N, 3], ends [N, 3], radii [N, 2]."""
        starts, ends, radii = zip(*self._parts, strict=True)
        return np.concatenate(starts), np.concatenate(ends), np.concatenate(radii)

    def placed(self, frame: Frame, thicker_mm: float = 0.0) -> tuple[Matrix, Matrix, Matrix]:
        """The arrays in the scanner's frame, with radii changed by a wall's thickness."""
        starts, ends, radii = self.arrays()
        return frame.to_scanner(starts), frame.to_scanner(ends), radii + thicker_mm


@dataclass(frozen=True)
class Tree:
    """A bifurcating tree's N branches, parents first.

    paths [N, 4, 3] mm; first, last: radii at the ends; leaves: how many a branch feeds; parent: -1: none.
    """

    paths: Matrix
    first: Matrix
    last: Matrix
    generation: NDArray[np.int64]
    leaves: NDArray[np.int64]
    parent: NDArray[np.int64]


@dataclass(frozen=True)
class Circulation:
    """All structures that carry blood or air."""

    arteries: Segments = field(default_factory=Segments)
    veins: Segments = field(default_factory=Segments)
    aorta: Segments = field(default_factory=Segments)
    cava: Segments = field(default_factory=Segments)
    airways: Segments = field(default_factory=Segments)
    clots: Segments = field(default_factory=Segments)


def curve(points: Matrix, count: int) -> Matrix:
    """A smooth path of `count` points through control points [N, 3]."""
    places: Matrix = CubicSpline(np.linspace(0, 1, len(points)), points)(np.linspace(0, 1, count))
    return places


def grow(root: Matrix, heading: Matrix, leaves: Matrix, tip: float, power: float, rng: np.random.Generator) -> Tree:
    """A bifurcating tree from `root` to every leaf [N, 3]; N must be a power of two.

    The leaves are halved along their longest axis again and again, and each half is fed by a branch toward
    its middle. A branch's radius is about tip * (leaves it feeds) ** power, as in Murray's law (power 1/3)
    but with larger trunks.
    """
    groups, starts, headings = leaves[None], root[None], heading[None]
    levels: list[tuple[Matrix, Matrix, Matrix]] = []
    t = np.linspace(0, 1, 4)[:, None]
    while True:
        branches, count = groups.shape[:2]
        reach = groups.mean(1) - starts
        share = 1.0 if count == 1 else rng.uniform(0.28, 0.5, (branches, 1))
        length = np.linalg.norm(reach, axis=1, keepdims=True) * share
        bend = starts + headings * (0.4 * length) + reach * (0.14 * share) + rng.normal(0, 0.06, (branches, 3)) * length
        ends = starts + reach * share
        paths = (1 - t) ** 2 * starts[:, None] + 2 * t * (1 - t) * bend[:, None] + t**2 * ends[:, None]
        radius = tip * count**power * rng.uniform(0.85, 1.15, branches)
        levels.append((paths, radius, radius * (0.6 if count == 1 else 0.9)))
        if count == 1:
            break
        longest = np.ptp(groups, axis=1).argmax(1)
        order = np.take_along_axis(groups, longest[:, None, None], axis=2)[..., 0].argsort(1)
        groups = np.take_along_axis(groups, order[..., None], axis=1).reshape(2 * branches, count // 2, 3)
        forward = paths[:, -1] - paths[:, -2]
        headings = np.repeat(forward / (np.linalg.norm(forward, axis=1, keepdims=True) + 1e-9), 2, axis=0)
        starts = np.repeat(ends, 2, axis=0)
    sizes = 2 ** np.arange(len(levels))
    generation = np.repeat(np.arange(len(levels)), sizes)
    parent = (np.arange(len(generation)) + 1) // 2 - 1
    paths, first, last = (np.concatenate(part) for part in zip(*levels, strict=True))
    return Tree(paths, first, last, generation, len(leaves) // sizes[generation], parent)


def _leaves(thorax: Thorax, side: int, count: int, rng: np.random.Generator) -> Matrix:
    """Points [count, 3] spread over one lung (side -1 right, 1 left), clear of its surface."""
    low = np.array([thorax.dome - 45, -thorax.half_depth, 0])
    high = np.array([thorax.apex, thorax.half_depth, thorax.half_width])
    points = rng.uniform(low, high, (count * 8, 3))
    points[:, 2] *= side
    z, y, x = points.astype(np.float32).T
    distance = thorax.lungs(thorax.walls(z, y, x), z, y, x)
    heart = np.linalg.norm((points - thorax.heart_centre) / (60 * thorax.heart_scale), axis=1)
    kept = points[(distance < -7) & (heart > 1)]
    leaves: Matrix = kept[np.arange(count) % len(kept)]
    return leaves


CLOT_CHANCE = (0.0, 0.5, 0.8, 0.8, 0.6, 0.4)
"""Chance that clots lodge, by generation: lobar and segmental arteries first."""


def _embolise(tree: Tree, p: PatientParameters, clots: Segments, rng: np.random.Generator) -> Matrix:
    """Lodge clots in one lung's arteries; return the blood flow left in every branch [N] (1 = healthy)."""
    flow = np.ones(len(tree.parent))
    dice, blocked = rng.random(len(flow)), rng.uniform(0.62, 0.97, len(flow))
    chance = np.zeros(len(flow))
    early = tree.generation < len(CLOT_CHANCE)
    chance[early] = np.array(CLOT_CHANCE)[tree.generation[early]] * (0.12 + 0.75 * p.clot_burden)
    lodged = dice < chance
    if not lodged.any():
        # A patient with an embolism must show one, whatever was drawn.
        lodged[1] = True
    for index, parent in enumerate(tree.parent):
        upstream = flow[parent] if parent >= 0 else 1.0
        flow[index] = upstream * (1 - p.oligaemia * blocked[index]) if lodged[index] else upstream
    clots.paths(tree.paths[lodged], (blocked * tree.first)[lodged], (blocked * tree.last)[lodged])
    return flow


def build_circulation(thorax: Thorax, p: PatientParameters, rng: np.random.Generator) -> Circulation:
    """Lay out the great vessels in the mediastinum and grow the lungs' trees."""
    c = Circulation()
    at = thorax.place
    heart = thorax.heart_centre
    size = thorax.heart_scale
    r = p.aorta_radius_mm
    dilated = 1 + 0.55 * p.rv_dilation

    root = heart + np.array([26, 2, -8]) * size
    arch = curve(np.vstack([root, at([[-8, -16, -16], [24, -6, -9], [38, 14, 5], [27, 38, 19], [0, 49, 24]])]), 15)
    c.aorta.path(arch, 1.12 * r, 0.86 * r)
    c.aorta.path(curve(at([[0, 49, 24], [-60, 50, 24], [-120, 50, 18], [-230, 44, 8]]), 12), 0.86 * r, 0.72 * r)
    for start, end, radius in (
        ((36, 8, -3), (95, 8, -20), 6.0),
        ((37, 18, 7), (100, 18, 18), 3.8),
        ((34, 26, 13), (95, 28, 32), 4.6),
    ):
        c.aorta.path(at([start, end]), radius, radius)

    atrium = heart + np.array([20, 2, -44]) * size
    c.cava.path(curve(np.vstack([at([[95, -2, -34], [55, -14, -28], [15, -13, -30]]), atrium]), 10), 7.5, 9.5)
    c.cava.path(curve(at([[80, -8, 40], [50, -30, 16], [38, -20, -24]]), 8), 6.0, 7.0)

    outflow = heart + np.array([34, -24, 10]) * size
    fork = at([-15, -4, 20])
    c.arteries.path(
        curve(np.vstack([outflow, (outflow + fork) / 2 + [2, -3, 2], fork]), 8), 13 * dilated, 13.5 * dilated
    )
    hila = {-1: at([-24, 17, -40]), 1: at([-8, 26, 42])}
    right = curve(np.vstack([fork, at([[-18, 12, -4], [-21, 16, -24]]), hila[-1]]), 10)
    left = curve(np.vstack([fork, at([[-8, 8, 28]]), hila[1]]), 7)
    c.arteries.path(right, 10.5 * dilated, 9.0 * dilated)
    c.arteries.path(left, 10.5 * dilated, 9.0 * dilated)
    if p.clot_burden > 0.6:
        c.clots.path(right[2:8], 5.5, 6.5)
        c.clots.path(left[1:6], 5.0, 6.0)

    for side in (-1, 1):
        leaves = _leaves(thorax, side, 256, rng)
        tree = grow(hila[side], np.array([-0.5, 0.35, 0.8 * side]), leaves, 0.78, 0.44, rng)
        flow = _embolise(tree, p, c.clots, rng) if p.embolism else np.ones(len(tree.parent))
        # Vessels beyond an embolus empty and narrow (Westermark's sign).
        upstream = np.where(tree.parent >= 0, flow[tree.parent], 1.0)
        open_ = (tree.leaves > 1) | (rng.random(len(flow)) < flow)
        c.arteries.paths(tree.paths[open_], (tree.first * upstream**0.5)[open_], (tree.last * flow**0.5)[open_])

        ranked = leaves[leaves[:, 0].argsort()]
        for level, targets in ((0, ranked[128:]), (1, ranked[:128])):
            ostium = heart + np.array([26 - 18 * level, 32, 24 * side - 6]) * size
            first = ostium + np.array([6.0 - 12 * level, 4, 24 * side])
            c.veins.path(np.stack([ostium, first]), 7, 6)
            drained = rng.permutation(targets)[:64] + rng.normal(0, 6, (64, 3))
            veins = grow(first, np.array([0.3 - 0.6 * level, 0.1, 0.9 * side]), drained, 0.78, 0.46, rng)
            c.veins.paths(veins.paths, veins.first, veins.last)

    carina = at([0, 33, 1])
    c.airways.path(curve(np.vstack([at([[125, 34, 0], [60, 30, 1]]), carina]), 8), 9.5, 9.0)
    for side, reach in (
        (-1, at([[-10, 34, -14], [-22, 33, -32], [-48, 30, -44]])),
        (1, at([[-14, 36, 20], [-28, 38, 40], [-52, 36, 52]])),
    ):
        c.airways.path(curve(np.vstack([carina, reach]), 9), 7.5, 4.0)
        c.airways.path(np.stack([reach[1], reach[1] + np.array([26, -4, 16 * side])]), 4.5, 2.5)
    return c
