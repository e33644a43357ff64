"""Paint a patient into HU: the chest wall first, then lungs, bones, heart and vessels over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data.embolism import UNDERFILLED
from x2c.data.phantom.bones import paint_clavicles, paint_ribs, paint_spine
from x2c.data.phantom.canvas import Canvas, Frame, Grid
from x2c.data.phantom.parameters import BLOOD_HU, PatientParameters, Pose, generator
from x2c.data.phantom.thorax import Thorax, Walls
from x2c.data.phantom.vessels import Circulation
from x2c.data.smoothstep import smoothstep
from x2c.data.volume import Array

FAT_HU, MUSCLE_HU, FLUID_HU, CLOT_HU, SKIN_HU = -100.0, 52.0, 12.0, 60.0, 30.0


@dataclass(frozen=True)
class Subject:
    """A patient's anatomy, ready to be rendered in any pose on any grid."""

    patient_id: str
    cohort_seed: int
    parameters: PatientParameters
    thorax: Thorax
    circulation: Circulation


@dataclass(frozen=True)
class Rendering:
    """hu, and the shares of each voxel that structures take; all [D, H, W]."""

    hu: Array
    artery: Array
    """Share of the pulmonary arteries, clots included."""
    clot: Array
    heart: Array
    """Share of muscle and chambers."""
    lung: Array
    """Share of the pleural spaces, without other structures in them; fluid included."""


def render(subject: Subject, pose: Pose, grid: Grid) -> Rendering:
    """Render a patient in a pose; noiseless."""
    p, thorax, circulation = subject.parameters, subject.thorax, subject.circulation
    canvas = Canvas(grid)
    bone, soft = thorax.frames(pose)
    blood = {
        "artery": p.artery_hu if pose.contrast else BLOOD_HU,
        "right": p.artery_hu - 25 if pose.contrast else BLOOD_HU,
        "vein": p.vein_hu if pose.contrast else BLOOD_HU,
        "aorta": p.aorta_hu if pose.contrast else BLOOD_HU,
        "cava": p.artery_hu + 150 if pose.contrast else BLOOD_HU,
    }

    inside, lungs = np.empty_like(canvas.hu), np.empty_like(canvas.hu)
    lining = _lining(subject, pose)
    for part, slab in canvas.slabs(voxels=50_000):
        z, y, x = bone.coordinates(slab.grid)
        z_soft = thorax.soft_z(z, pose)
        walls = thorax.walls(z, y, x)
        _body(slab, p, thorax, bone, pose.upright, z, walls)
        inside[part] = _abdomen(slab, thorax, pose, z_soft, y, x, walls)
        lungs[part] = _lungs(slab, lining, thorax, pose, z_soft, y, x, walls)
        paint_ribs(slab, thorax, p, z, walls)
        paint_spine(slab, thorax, p, z, walls)
    paint_clavicles(canvas, thorax, bone, p)
    heart = _heart(canvas, thorax, soft, p, blood, inside)

    artery, clot = np.zeros_like(canvas.hu), np.zeros_like(canvas.hu)
    for segments, wall_mm, hu in (
        (circulation.cava, 0.0, blood["cava"]),
        (circulation.aorta, 0.0, blood["aorta"]),
        (circulation.airways, 1.5, MUSCLE_HU),
        (circulation.veins, 0.0, blood["vein"]),
        (circulation.airways, 0.0, -990.0),
        (circulation.arteries, 0.0, blood["artery"]),
        (circulation.clots, 0.0, CLOT_HU),
    ):
        found = canvas.tubes(*segments.placed(soft, wall_mm)) if len(segments) else None
        if found is None:
            continue
        box, coverage = found
        if segments is circulation.arteries:
            artery[box] = coverage
        elif segments is circulation.clots:
            coverage = clot[box] = np.minimum(coverage, artery[box])
        canvas.blend(coverage, hu, box)
    _nodules(canvas, subject, soft, lungs)
    return Rendering(canvas.hu, artery, clot, heart, lungs * (1 - heart))


def _body(
    canvas: Canvas, p: PatientParameters, thorax: Thorax, frame: Frame, upright: bool, z: Array, walls: Walls
) -> None:
    """Skin, fat, breasts, and the muscles of the chest wall."""
    if p.breast_mm > 0:
        for side in (-1, 1):
            # Standing, a breast hangs; lying, it spreads to the side.
            place = np.array([-55, -86, 58 * side]) if upright else np.array([-42, -84, 74 * side])
            front = place * thorax.scale - np.array([0, 4 + 0.4 * p.fat_mm, 0])
            depth = p.breast_mm * (1.0 if upright else 0.75)
            axes = np.diag([56 + 0.4 * p.breast_mm, 12 + depth, 0.44 * thorax.half_width])
            found = canvas.ellipsoid_distance(frame, front, axes)
            if found is not None:
                box, distance = found
                canvas.blend(canvas.coverage(distance), SKIN_HU, box)
                canvas.blend(canvas.coverage(distance + 2), FAT_HU, box)
    canvas.blend(canvas.coverage(walls.skin), SKIN_HU)
    canvas.blend(canvas.coverage(walls.skin + 2), FAT_HU)
    back, front = np.clip(walls.toward_back, 0, 1), np.clip(-walls.toward_back, 0, 1)
    fourth = np.square(np.square(back))
    high = smoothstep((z - thorax.dome * 0.4) * (1 / 50))
    # Latissimus and scapular muscles behind, erector spinae beside the spine, pectorals in front and above.
    thickness = (
        p.muscle_mm
        + back * (1 - 0.6 * fourth) * high * (1.9 * p.muscle_mm)
        + front * high * p.muscle_mm
        + fourth * fourth * 22
    )
    muscle = walls.cage - thickness
    np.minimum(
        muscle,
        np.maximum(
            walls.skin + p.fat_mm * 0.7,
            0.8 * (thorax.apex - 30 - z - 0.3 * (np.abs(walls.beside_spine) - 90) - 25 * walls.depth),
        ),
        out=muscle,
    )
    np.maximum(muscle, walls.skin + 3 + 0.25 * p.fat_mm, out=muscle)
    canvas.blend(canvas.coverage(muscle), MUSCLE_HU)


def _abdomen(canvas: Canvas, thorax: Thorax, pose: Pose, z_soft: Array, y: Array, x: Array, walls: Walls) -> Array:
    """Mediastinal fat, liver, spleen and stomach; returns the coverage of the rib cage's inside."""
    inside = canvas.coverage(walls.cage)
    canvas.blend(inside, -70.0)
    under = thorax.diaphragm(y, x) - z_soft
    liver_ends = 0.28 * thorax.half_width
    liver = np.maximum(np.maximum(-under + 3, x - liver_ends + 0.25 * (under + y * 0.6)), walls.cage + 3)
    canvas.blend(canvas.coverage(liver), 95.0 if pose.contrast else 58.0)
    spleen = np.maximum(np.maximum(-under + 4, 0.42 * thorax.half_width - x), np.maximum(walls.cage + 4, 12 - y))
    canvas.blend(canvas.coverage(spleen), 118.0 if pose.contrast else 50.0)
    stomach = np.maximum(np.maximum(-under + 5, 0.24 * thorax.half_width - x), np.maximum(walls.cage + 9, y - 4))
    canvas.blend(canvas.coverage(stomach), 25.0)
    # Gas rises: to the front of a supine stomach, to the top of an upright one.
    gas = np.maximum(stomach + 4, (under - 22) if pose.upright else (y + 0.35 * thorax.half_depth))
    canvas.blend(canvas.coverage(gas), -900.0)
    return inside


@dataclass(frozen=True)
class Lining:
    """Content of the pleural spaces: lattices of lung density, HU; by side, the fluid's level (None: dry)."""

    coarse: Array
    fine: Array
    fluid_levels: tuple[tuple[int, float | None], ...]


def _lining(subject: Subject, pose: Pose) -> Lining:
    p = subject.parameters
    rng = generator(subject.patient_id, subject.cohort_seed, "texture")
    coarse, fine = (rng.standard_normal((n, n, n), dtype=np.float32) for n in (15, 41))
    effusions = ((-1, p.effusion_right_ml), (1, p.effusion_left_ml))
    levels = tuple((side, fluid_level(subject.thorax, pose, side, ml) if ml > 0 else None) for side, ml in effusions)
    return Lining(p.lung_hu + 22 * coarse, 16 * fine, levels)


def _lungs(
    canvas: Canvas,
    lining: Lining,
    thorax: Thorax,
    pose: Pose,
    z_soft: Array,
    y: Array,
    x: Array,
    walls: Walls,
) -> Array:
    """Aerated lung with texture, and pleural fluid where gravity puts it; returns the lungs' coverage."""
    coverage = canvas.coverage(thorax.lungs(walls, z_soft, y, x))
    dependent = -40 * smoothstep((z_soft - thorax.dome) / 200) if pose.upright else 45 * walls.depth
    parenchyma = canvas.interpolate(lining.coarse) + canvas.interpolate(lining.fine) + dependent
    for side, level in lining.fluid_levels:
        if level is not None:
            below = np.where(x * side > 0, _settling(thorax, pose, z_soft, walls, x) - level, np.float32(50))
            # The lung next to the fluid is compressed: a band of atelectasis.
            parenchyma += canvas.coverage(below - 9) * (-250 - parenchyma)
            parenchyma += canvas.coverage(below) * (FLUID_HU - parenchyma)
    canvas.blend(coverage, parenchyma)
    return coverage


def _settling(thorax: Thorax, pose: Pose, z_soft: Array, walls: Walls, x: Array) -> Array:
    """Height against gravity, mm, that pleural fluid fills from below; less by the wall: a meniscus."""
    if pose.upright:
        return z_soft - 26 * (x / thorax.half_width) ** 2 - 16 * walls.depth
    height: Array = -walls.depth * thorax.half_depth + 0.3 * z_soft - 22 * (x / thorax.half_width) ** 2
    return height


def _probe(thorax: Thorax, pose: Pose) -> tuple[Array, Array, Array, Walls, Array]:
    """A coarse grid over the whole chest for measuring: soft z, y, x, walls, lung distance."""
    step = 8.0
    z, y, x = np.meshgrid(
        np.arange(thorax.dome - 90, thorax.apex + 10, step, dtype=np.float32),
        np.arange(-thorax.half_depth - 10, thorax.half_depth + 10, step, dtype=np.float32),
        np.arange(-thorax.half_width - 10, thorax.half_width + 10, step, dtype=np.float32),
        indexing="ij",
    )
    walls = thorax.walls(z, y, x)
    z_soft = thorax.soft_z(z, pose)
    return z_soft, y, x, walls, thorax.lungs(walls, z_soft, y, x)


def fluid_level(thorax: Thorax, pose: Pose, side: int, volume_ml: float) -> float:
    """Return the height (in `_settling` mm) of an effusion of a volume in one pleural space."""
    z_soft, _, x, walls, distance = _probe(thorax, pose)
    heights = np.sort(_settling(thorax, pose, z_soft, walls, x)[(distance < 0) & (x * side > 0)])
    if heights.size == 0:
        return -1e3
    return float(heights[min(int(volume_ml / 0.512), heights.size - 1)])


def lung_volumes(thorax: Thorax, pose: Pose) -> tuple[float, float]:
    """Volume of the right and left pleural space in a pose, ml."""
    _, _, x, _, distance = _probe(thorax, pose)
    return float(((distance < 0) & (x < 0)).sum() * 0.512), float(((distance < 0) & (x > 0)).sum() * 0.512)


def _heart(
    canvas: Canvas, thorax: Thorax, frame: Frame, p: PatientParameters, blood: dict[str, float], inside: Array
) -> Array:
    """Pericardial fat, myocardium, and the four chambers, the right ones filled with contrast first.

    Returns the share of each voxel that the heart takes, without the fat.
    """
    axes, centre, size = thorax.heart_axes(), thorax.heart_centre, thorax.heart_scale
    wide = 1 + 0.55 * p.rv_dilation
    wall = 105.0 if blood["artery"] > BLOOD_HU else 50.0

    def chamber(position: tuple[float, float, float], radii: tuple[float, float, float], hu: float) -> None:
        canvas.ellipsoid(frame, centre + axes @ np.array(position) * size, axes * (np.array(radii) * size), hu, inside)

    # Positions and radii along: toward the apex, toward the front, across.
    chamber((0, 0, 0), (70, 50, 52), -60.0)
    chamber((0, 0, 0), (66, 46, 48), wall)
    chamber((22, -14, 0), (43, 29, 31), wall)
    narrow = 1 - UNDERFILLED * p.rv_dilation
    chamber((18, -14, 0), (32, 18 * narrow, 20 * narrow), blood["vein"] - 20)
    chamber((8, 24, 4), (44 * wide**0.5, 18 * wide, 34 * wide**0.5), blood["right"])
    chamber((-36, 16, 14), (26 * wide, 26 * wide**0.5, 28), blood["right"])
    chamber((-34, -26, -6), (22, 22, 32), blood["vein"])
    covered = np.zeros_like(canvas.hu)
    found = canvas.ellipsoid_distance(frame, centre, axes * (np.array((66, 46, 48)) * size))
    if found is not None:
        box, distance = found
        covered[box] = canvas.coverage(distance) * inside[box]
    return covered


def _nodules(canvas: Canvas, subject: Subject, frame: Frame, lungs: Array) -> None:
    """Round soft-tissue nodules in the lungs."""
    thorax = subject.thorax
    rng = generator(subject.patient_id, subject.cohort_seed, "nodules")
    for _ in range(subject.parameters.n_nodules):
        side = rng.choice([-1, 1])
        low = np.array([thorax.dome, -0.75 * thorax.half_depth, 0.35 * thorax.half_width])
        high = np.array([0.8 * thorax.apex, 0.75 * thorax.half_depth, 0.85 * thorax.half_width])
        centre = rng.uniform(low, high) * np.array([1, 1, side])
        radius = rng.uniform(4, 16)
        canvas.ellipsoid(frame, centre, np.diag(radius * rng.uniform(0.8, 1.2, 3)), 42.0, lungs)
