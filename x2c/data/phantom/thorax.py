"""The shapes of one chest as functions of position: skin, rib cage, spine, diaphragm, lungs.

Anatomical coordinates are (z, y, x) in mm with the carina near the origin: z up, y to the back, x to the
patient's left. A point of the "soft" frame follows the diaphragm when the patient breathes; the "bone" frame
does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from x2c.data.phantom.canvas import Frame, Matrix
from x2c.data.phantom.parameters import PatientParameters, Pose
from x2c.data.posture import rotation
from x2c.data.smoothstep import smoothstep
from x2c.data.volume import Array

TABLE_LOW_MM, TABLE_STEP_MM, TABLE_SIZE = -450.0, 0.5, 1600


@dataclass(frozen=True)
class Walls:
    """Signed distances (mm, negative inside) to the skin and the rib cage's inner surface, at some points.

    toward_back: cosine of the angle around the cage, 1 at the spine, -1 at the sternum. depth: -1 front of
    the cage, 1 back.
    """

    skin: Array
    cage: Array
    toward_back: Array
    depth: Array
    beside_spine: Array
    behind_spine: Array


class Thorax:
    """One patient's chest; cross-sections are tabulated along z so that a lookup a voxel is all they cost."""

    def __init__(self, p: PatientParameters) -> None:
        self.p = p
        self.half_width, self.half_depth = p.cage_width_mm / 2, p.cage_depth_mm / 2
        self.apex, self.dome = 0.46 * p.lung_height_mm, -0.54 * p.lung_height_mm
        self.scale = np.array([p.lung_height_mm / 210, p.cage_depth_mm / 180, p.cage_width_mm / 270])
        self.heart_scale = p.heart_width_mm / 132
        self.pitch = 23.0 * float(self.scale[0])
        z = TABLE_LOW_MM + TABLE_STEP_MM * np.arange(TABLE_SIZE)
        self._tabulate(z)

    def _tabulate(self, z: Array) -> None:
        p = self.p
        below = np.maximum(self.apex + 4 - z, 0) / p.lung_height_mm
        width = np.sqrt(1 - (1 - np.minimum(below / 0.66, 1)) ** 2.3) * (1 + 0.05 * np.clip(below - 0.6, 0, 0.5))
        depth = np.sqrt(1 - (1 - np.minimum(below / 0.55, 1)) ** 2.2)
        a, b = np.maximum(self.half_width * width, 3), np.maximum(self.half_depth * depth, 3)
        spine_y = self.half_depth - 26 - p.kyphosis_mm * ((z + 40) / 130) ** 2
        spine_x = p.scoliosis_mm * np.sin(z / 70)
        slant = np.maximum(1 / np.sqrt(1 + np.gradient(np.minimum(a, b), TABLE_STEP_MM) ** 2), 0.3)
        shoulders = smoothstep((z - self.apex + 80) / 75)
        belly = smoothstep((self.dome + 20 - z) / 90)
        front, back = 13 + 0.5 * p.muscle_mm + 0.5 * p.fat_mm, 27 + 0.6 * p.fat_mm
        neck = smoothstep((z - self.apex + 2) / 70)
        skin_a = self.half_width + 12 + p.muscle_mm + 0.75 * p.fat_mm + 45 * shoulders + 0.2 * p.fat_mm * belly
        skin_a = skin_a * (1 - neck) + (62 + 0.5 * p.fat_mm) * neck
        skin_b = (self.half_depth + (front + back) / 2 + 0.15 * p.fat_mm * belly) * (1 - 0.16 * shoulders - 0.14 * neck)
        skin_y = (back - front) / 2 + (spine_y - spine_y.max()) * 0.5
        table = np.stack([a, b, spine_y + 26 - b, spine_y, spine_x, slant, skin_a, skin_b, skin_y])
        self._table = table.astype(np.float32)
        cosine = np.linspace(-1, 1, 1025)
        sine = np.sqrt(1 - cosine**2)
        # A superellipse, flattened a little in front: chests are rounder at the back.
        squareness = 2.35
        round_ = (np.abs(cosine) ** squareness + sine**squareness) ** (1 / squareness)
        # The lungs reach back into a gutter on either side of the spine.
        round_ *= 1 - 0.07 * np.exp(-(((np.arccos(cosine) - 0.52) / 0.26) ** 2))
        self._cage_outline = (round_ * (1 + 0.05 * np.clip(-cosine, 0, 1) ** 2)).astype(np.float32)
        self._skin_outline = ((np.abs(cosine) ** 2.5 + sine**2.5) ** 0.4).astype(np.float32)

    def profile(self, z: Array) -> Array:
        """At z: cage half width, half depth, middle y; spine y, x; slant; skin likewise."""
        index = ((z - TABLE_LOW_MM) * (1 / TABLE_STEP_MM)).astype(np.intp)
        return self._table.take(np.clip(index, 0, TABLE_SIZE - 1, out=index), axis=1)

    def walls(self, z: Array, y: Array, x: Array) -> Walls:
        """Distances to the skin and the rib cage at points given in bone coordinates, any shape."""
        a, b, centre, spine_y, spine_x, slant, skin_a, skin_b, skin_y = self.profile(z)
        beside, ahead = x - spine_x, y - centre
        cage, cosine = _radial(beside, ahead, a, b, self._cage_outline)
        skin, _ = _radial(beside, y - skin_y, skin_a, skin_b, self._skin_outline)
        return Walls(skin, cage * slant, cosine, ahead / b, beside, y - spine_y)

    def diaphragm(self, y: Array, x: Array) -> Array:
        """Height z (soft) of the diaphragm's domes at y, x, mm."""
        p = self.p
        right, left = self.dome + p.diaphragm_raised_right_mm, self.dome - 13 + p.diaphragm_raised_left_mm
        across = (np.abs(x) - 0.46 * self.half_width) / (0.56 * self.half_width)
        # The central tendon, on which the heart rests, hangs less than the rim.
        across = np.where(across < 0, across * 0.6, across)
        along = (y + 0.12 * self.half_depth) / self.half_depth
        along = np.where(along > 0, along * 1.25, along * 0.8)
        top = (right + left) / 2 + (left - right) / 2 * np.tanh(x / 22)
        height: Array = top - 46 * (across**2 + along**2)
        return height

    def lungs(self, walls: Walls, z_soft: Array, y: Array, x: Array) -> Array:
        """Signed distance to the pleural space: the cage without mediastinum, spine and abdomen."""
        distance = walls.cage + 1.5
        # The mediastinum: narrow behind the sternum, wide at the hila, wider still at the thoracic inlet.
        waist = 0.5 + 0.5 * np.exp(-(((walls.depth - 0.15) / 0.6) ** 2))
        inlet = 1 + 0.35 * np.clip((z_soft - 0.45 * self.apex) / self.apex, 0, 1)
        band = (26 * float(self.scale[2])) * waist * inlet
        middle = 3 + self.p.mediastinal_shift_mm * np.clip(1 - z_soft / self.apex, 0, 1)
        np.maximum(distance, band - np.abs(x - middle), out=distance)
        beside, behind = walls.beside_spine, walls.behind_spine
        spine = np.sqrt(beside**2 + np.where(behind < 0, behind, behind * 0.3) ** 2) - 22
        np.maximum(distance, -spine, out=distance)
        lungs: Array = np.maximum(distance, (self.diaphragm(y, x) - z_soft) * 0.85, out=distance)
        return lungs

    def place(self, points: object) -> Matrix:
        """Points of the reference chest (270 x 180 x 210 mm) moved to this one, [..., 3]."""
        placed: Matrix = np.asarray(points, dtype=np.float64) * self.scale
        # Parts bound to the spine and the neck move least.
        loose = np.clip(1 - placed[..., 0] / self.apex, 0, 1) * np.clip(1 - placed[..., 1] / 80, 0.3, 1)
        placed[..., 2] += self.p.mediastinal_shift_mm * loose
        return placed

    @property
    def heart_centre(self) -> Matrix:
        """The heart's centre: it rests on the diaphragm and leans to the left."""
        size = self.heart_scale
        return np.array(
            [
                self.dome + 38 * size + 2,
                -0.27 * self.half_depth - 2,
                3 + 24 * size + self.p.mediastinal_shift_mm,
            ]
        )

    def heart_axes(self) -> Matrix:
        """Unit vectors, as columns: apex-wards, toward the right heart (front), and across both."""
        apex = np.array([-0.50, -0.42, 0.76])
        apex /= np.linalg.norm(apex)
        front = np.array([-0.15, -0.85, -0.50])
        front -= apex * (front @ apex)
        front /= np.linalg.norm(front)
        return np.stack([apex, front, np.cross(apex, front)], axis=1)

    def on_cage(self, z: float, toward_back: float, side: int, outside_mm: float) -> Matrix:
        """A point outside the rib cage at height z, in a direction given by its cosine toward the back."""
        a, b, centre, _, spine_x = self.profile(np.array([z]))[:5, 0].astype(float)
        outline = float(self._cage_outline[int((toward_back + 1) * 512)])
        offset = np.array([b * toward_back, a * np.sqrt(1 - toward_back**2) * side]) / outline
        offset *= 1 + outside_mm / np.linalg.norm(offset)
        return np.array([z, centre + offset[0], spine_x + offset[1]])

    def frames(self, pose: Pose) -> tuple[Frame, Frame]:
        """Bone and soft frames in a pose: breathing in widens the cage and lengthens the lungs downward."""
        turned = rotation(pose.rotation_deg, pose.tilt_deg, pose.lean_deg)
        shift = np.array(pose.shift_mm)
        widened = 1 + 0.05 * (pose.breath - 0.5)
        stretched = _stretch(pose)
        bone = turned @ np.diag([1, widened, widened])
        soft = turned @ np.diag([stretched, widened, widened])
        return Frame(bone, shift), Frame(soft, shift + turned @ np.array([self.apex * (1 - stretched), 0, 0]))

    def soft_z(self, z: Array, pose: Pose) -> Array:
        """Bone z of a breathing patient to soft z."""
        stretched = _stretch(pose)
        return (z - np.float32(self.apex * (1 - stretched))) * np.float32(1 / stretched)


def _stretch(pose: Pose) -> float:
    """Return the length of the lungs relative to mid breath."""
    return 1 + 0.22 * (pose.breath - 0.5)


def _radial(x: Array, y: Array, a: Array, b: Array, outline: Array) -> tuple[Array, Array]:
    """Distance along the ray from the centre to a closed outline r(cosine), and the cosine toward +y."""
    u, v = x / a, y / b
    q = np.sqrt(u * u + v * v) + np.float32(1e-6)
    cosine = v / q
    q *= outline[((cosine + 1) * 512).astype(np.intp)]
    return (1 - 1 / np.maximum(q, 0.05)) * np.sqrt(x * x + y * y), cosine
