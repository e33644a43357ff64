"""One patient of the atlas: the template bent into another person, with densities and diseases of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from x2c.data.atlas.deformation import Axes, Placement, exponential, jacobian, resample, sample, to_unit
from x2c.data.atlas.disease import Clots, lodge, paint_clots, paint_effusions
from x2c.data.atlas.modes import MODES
from x2c.data.atlas.parameters import FINE_MM, ROUGH_MM, Parameters, Pose, ct_pose, radiograph_pose, sample_parameters
from x2c.data.atlas.template import LATTICE_MM, Template
from x2c.data.atlas.tissues import LEVELS, Tissue, palette
from x2c.data.phantom.parameters import generator
from x2c.data.posture import rotation
from x2c.data.volume import Array, Volume

JACOBIAN_MIN = 0.15
"""Smallest relative volume of any place of a patient; a field that squeezes more is weakened."""
WEAKENING = 0.85
RIM_CELLS = 3
"""Margin of the lattice that is not checked: air, and places outside all fields of view; flows leave the box there."""


@dataclass(frozen=True)
class Imaged:
    """A patient in a pose: the position of everything, and the volumes of the right and left lung, ml."""

    pose: Pose
    placement: Placement
    lung_ml: tuple[float, float]
    jacobian_min: float
    strength: float
    """Share of the drawn deformation that is applied; less than 1 if all of it would have squeezed too much."""


class Subject:
    """A patient, drawn from its id and the cohort's number, whose CT is made with contrast agent or without."""

    def __init__(self, template: Template, patient_id: str, cohort_seed: int, contrast: bool = True) -> None:
        self.template = template
        self.patient_id, self.cohort_seed = patient_id, cohort_seed
        self.parameters = sample_parameters(patient_id, cohort_seed)
        self.clots: Clots = lodge(template, self.parameters.disease, self.generator("clots"))
        rough = random_field(template.modes.shape[2:], self.generator("shape"))
        poses = ct_pose(patient_id, cohort_seed, contrast), radiograph_pose(patient_id, cohort_seed)
        self.lying, self.standing = place(template, self.parameters, poses, rough)

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a random stream for each purpose."""
        return generator(self.patient_id, self.cohort_seed, f"atlas {purpose}")

    @cached_property
    def _texture(self) -> Array:
        """Return the density of the lungs' voxels [N], HU, relative to their mean, varying over centimetres."""
        lattice = 17 * self.generator("texture").standard_normal((1, 8, 6, 8), dtype=np.float32)
        z, y, x = (a[[0, -1]] for a in self.template.lattice)
        points = to_unit(np.asarray(self.template.lung_mm), (z, y, x))
        return sample(lattice, points[None, None])[0, 0, 0].numpy()

    def hu(self, imaged: Imaged) -> Array:
        """Return the template [D, H, W] with this patient's densities and diseases in a pose."""
        template, p = self.template, self.parameters
        densities = p.densities if imaged.pose.contrast else p.densities.without_contrast()
        hu = palette(densities)[template.codes]
        flat = hu.ravel()
        self._aerate(flat, imaged, densities.lung)
        paint_clots(flat, template, self.clots, densities.artery, densities.lung)
        paint_effusions(flat, template, p.disease, imaged.placement, imaged.pose.upright, imaged.lung_ml)
        return hu

    def structures(self) -> dict[str, Array]:
        """Return the share of each of the template's voxels [D, H, W] that structures (`virtual.STRUCTURES`) take."""
        t = self.template
        tissue = np.asarray(t.codes) // LEVELS
        lung, clot = (np.zeros(tissue.shape, dtype=np.float32) for _ in range(2))
        lung.ravel()[np.asarray(t.lung_at)[np.asarray(t.lung_core)]] = 1
        clot.ravel()[np.asarray(t.artery_at)] = self.clots.share
        artery, heart = ((tissue == kind).astype(np.float32) for kind in (Tissue.ARTERY, Tissue.HEART))
        return {"artery": np.maximum(artery, clot), "clot": clot, "heart": heart, "lung": lung}

    def _aerate(self, flat: Array, imaged: Imaged, lung_hu: float) -> None:
        """Thin the lungs by the air in them, and let gravity and chance vary their density."""
        t, disease = self.template, self.parameters.disease
        at, left = np.asarray(t.lung_at), np.asarray(t.lung_left)
        fluid_ml = (disease.effusion_right_ml, disease.effusion_left_ml)
        # Tissue and blood stay, air comes and goes; fluid leaves less room for both.
        packed = [
            np.float32(min(before / max(now - ml, 0.3 * now), 2.0))
            for before, now, ml in zip(self.lying.lung_ml, imaged.lung_ml, fluid_ml, strict=True)
        ]
        values = flat[at]
        lung = np.clip((-450 - values) / 300, 0, 1)
        z, y, _ = np.asarray(t.lung_mm).T
        # The template was scanned lying; upright, the density gradient turns from the back to the base.
        gravity = -0.25 * y - 0.12 * z if imaged.pose.upright else np.float32(0)
        dense = np.where(left, packed[1], packed[0]) * (values + 1000) - 1000 + self._texture + gravity
        flat[at] = values + lung * (dense - values)

    def on_grid(self, values: Array, imaged: Imaged, grid: Axes) -> Array:
        """Return values on the template's grid [D, H, W] resampled to a grid in the scanner."""
        axes = tuple(
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.template.origin_mm, self.template.spacing_mm, values.shape, strict=True)
        )
        return resample(values, axes, imaged.placement, grid)

    def volume(self, imaged: Imaged, grid: Axes) -> Volume:
        """Return the noiseless patient in a pose."""
        z, y, x = ((float(a[1] - a[0]), float(a[0])) for a in grid)
        return Volume(self.on_grid(self.hu(imaged), imaged, grid), (z[0], y[0], x[0]), (z[1], y[1], x[1]))

    def lung_box(self, imaged: Imaged) -> tuple[Array, Array]:
        """Return middle and lengths of the lungs' box in the scanner, mm (z, y, x), of a patient at a given place."""
        points = imaged.placement.to_scanner(np.asarray(self.template.lung_box))
        low, high = points.min(0), points.max(0)
        return (low + high) / 2 - np.array(imaged.pose.shift_mm), high - low

    def heart_width_mm(self, imaged: Imaged) -> float:
        """Return the distance from the heart's right edge to its left, as on a radiograph without magnification."""
        return float(np.ptp(imaged.placement.to_scanner(np.asarray(self.template.heart_box))[:, 2]))


def random_field(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return a smooth random velocity field [3, d, h, w], mm, of two scales (see ROUGH_MM)."""
    field = np.zeros((3, *shape), dtype=np.float32)
    for sd_mm, sigma in ((ROUGH_MM, 40 / LATTICE_MM), (FINE_MM, 20 / LATTICE_MM)):
        for part in field:
            smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="nearest")
            part += sd_mm * smooth / smooth.std()
    return field


def place(template: Template, parameters: Parameters, poses: tuple[Pose, ...], rough: Array) -> tuple[Imaged, ...]:
    """Return the patient in poses, all with the same field except for breath, weakened while it squeezes too much."""
    modes = np.asarray(template.modes)
    still = {**parameters.weights, "breath": 0.0}
    static = np.tensordot(np.array([still[name] for name in MODES], dtype=np.float32), modes, axes=1) + rough
    breath = modes[MODES.index("breath")]
    strength = 1.0
    while True:
        imaged = tuple(_imaged(template, parameters, p, static + p.breath_mm * breath, strength) for p in poses)
        if min(i.jacobian_min for i in imaged) >= JACOBIAN_MIN:
            return imaged
        strength *= WEAKENING


def _imaged(template: Template, parameters: Parameters, pose: Pose, drawn: Array, strength: float) -> Imaged:
    lattice, velocity = template.lattice, strength * drawn
    forward, backward = exponential(velocity, lattice), exponential(-velocity, lattice)
    growth = jacobian(forward, lattice)
    matrix = rotation(pose.rotation_deg, pose.tilt_deg, pose.lean_deg) @ np.diag(parameters.size)
    placement = Placement(matrix, np.array(pose.shift_mm), forward, backward, lattice)
    cell_ml = float(np.prod([a[1] - a[0] for a in lattice])) * float(np.prod(parameters.size)) / 1000
    right, left = (float((share[:-1, :-1, :-1] * growth).sum() * cell_ml) for share in np.asarray(template.lung_share))
    squeezed = min(float(a[(slice(RIM_CELLS, -RIM_CELLS),) * 3].min()) for a in (growth, jacobian(backward, lattice)))
    return Imaged(pose, placement, (right, left), squeezed, strength)
