"""The skeleton: ribs, sternum and scapulae as shells around the cage, clavicles, and the spine."""

from __future__ import annotations

import numpy as np

from x2c.data.phantom.canvas import Canvas, Frame
from x2c.data.phantom.parameters import PatientParameters
from x2c.data.phantom.thorax import Thorax, Walls
from x2c.data.phantom.vessels import Segments, curve
from x2c.data.smoothstep import smoothstep
from x2c.data.volume import Array


def paint_ribs(canvas: Canvas, thorax: Thorax, p: PatientParameters, z: Array, walls: Walls) -> None:
    """Ribs, sternum and scapulae, as shells around the cage."""
    shell = np.flatnonzero((walls.cage > -3) & (walls.cage < 30) & (walls.skin < -2))
    height, cage, cosine, beside = (a.ravel()[shell] for a in (z, walls.cage, walls.toward_back, walls.beside_spine))
    drop = 40 * (1 - np.maximum(cosine, -0.78)) - 90 * np.maximum(-0.78 - cosine, 0)
    phase = (height + drop - thorax.apex - 4) / thorax.pitch
    number = np.round(phase)
    tall = (phase - number) * thorax.pitch
    rib = np.sqrt((tall / 6.2) ** 2 + ((cage - 4.5) / 3.8) ** 2)
    # Twelve ribs; the last ones do not reach the front.
    absent = (number > 0) | (number < -11) | (cosine < -0.95) | ((number < -9) & (cosine < 0.1))
    bone = canvas.coverage(np.where(absent, np.float32(50), (rib - 1) * 4.5))
    cartilage = cosine < -0.74
    density = np.where(cartilage, np.float32(110), p.bone_hu + 60 + 600 * smoothstep((rib - 0.55) * 3))
    hu = canvas.hu.ravel()
    hu[shell] += bone * (density - hu[shell])

    manubrium = smoothstep((height - 0.12 * thorax.apex) / 30)
    plate = np.maximum(np.abs(beside) - (15 + 11 * manubrium), np.abs(cage - 6) - 5)
    plate = np.maximum(plate, np.maximum(height - 0.42 * thorax.apex, -0.5 * thorax.apex - 60 - height))
    plate = np.where(cosine < -0.6, plate, np.float32(50))
    hu[shell] += canvas.coverage(plate) * (p.bone_hu + 40 - hu[shell])

    top, bottom = thorax.apex - 12, thorax.apex - 140
    along = np.clip((height - bottom) / (top - bottom), 0, 1)
    blade = np.maximum(np.abs(cage - 18 + 6 * along) - 2.6, np.maximum(height - top, bottom - height))
    outer, inner = 0.30 - 0.05 * along, 0.62 + 0.24 * along
    blade = np.maximum(blade, np.maximum(outer - cosine, cosine - inner) * 90)
    hu[shell] += canvas.coverage(blade) * (p.bone_hu + 230 - hu[shell])


def paint_clavicles(canvas: Canvas, thorax: Thorax, frame: Frame, p: PatientParameters) -> None:
    """Clavicles from the manubrium over the first ribs to the shoulders, and the humeral heads."""
    for side in (-1, 1):
        points = [
            thorax.on_cage(0.50 * thorax.apex, -0.965, side, 10),
            thorax.on_cage(0.68 * thorax.apex, -0.75, side, 12),
            thorax.on_cage(0.82 * thorax.apex, -0.25, side, 22),
            np.array([0.88 * thorax.apex, 0.1 * thorax.half_depth, 1.16 * thorax.half_width * side]),
        ]
        clavicle = Segments()
        clavicle.path(curve(np.array(points), 9), 6.2, 5.4)
        for thinner, value in ((0.0, p.bone_hu + 420), (-2.2, p.bone_hu + 80)):
            found = canvas.tubes(*clavicle.placed(frame, thinner))
            if found is not None:
                canvas.blend(found[1], value, found[0])
        for radius, value in ((24.0, p.bone_hu + 400), (21.5, p.bone_hu + 20)):
            canvas.ellipsoid(frame, points[-1] + np.array([-14, 12, 22 * side]), np.diag([radius] * 3), value)


def paint_spine(canvas: Canvas, thorax: Thorax, p: PatientParameters, z: Array, walls: Walls) -> None:
    """Vertebral bodies and discs, the canal, laminae, transverse and spinous processes."""
    near = np.flatnonzero((np.abs(walls.beside_spine) < 46) & (walls.behind_spine > -24) & (walls.behind_spine < 60))
    across, back, height = (a.ravel()[near] for a in (walls.beside_spine, walls.behind_spine, z))
    pitch = thorax.pitch
    within = np.abs(height / pitch - np.round(height / pitch)) * pitch
    disc = 0.5 * pitch - 2.6
    waist = 1 - 0.10 * (1 - (within / (0.5 * pitch)) ** 2)
    body = (np.sqrt((across / 18) ** 2 + (back / 15.5) ** 2) / waist - 1) * 16.5
    hu = canvas.hu.ravel()
    value = hu[near]

    def paint(distance: Array, density: Array | float) -> None:
        nonlocal value
        value = value + canvas.coverage(distance) * (density - value)

    paint(body - 1, 90.0)
    vertebra = np.maximum(body, within - disc)
    paint(vertebra, p.bone_hu + 330)
    paint(vertebra + 1.8, p.bone_hu)
    canal = np.hypot(across, back - 23)
    segment = np.abs(within)
    arch = np.maximum(np.abs(canal - 11.5) - 3, segment - 7.5)
    lower = np.abs((height + 0.55 * (back - 30)) / pitch - np.round((height + 0.55 * (back - 30)) / pitch)) * pitch
    spinous = np.maximum(np.maximum(np.abs(across) - 3.2, np.abs(back - 44) - 11), lower - 6.5)
    wing = np.maximum(np.abs(np.abs(across) - 25) - 13, np.abs(back - 22 - 0.25 * np.abs(across)) - 4.5)
    paint(np.minimum(arch, np.minimum(spinous, np.maximum(wing, segment - 5.5))), p.bone_hu + 230)
    paint(canal - 8.5, 30.0)
    hu[near] = value
