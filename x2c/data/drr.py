"""Digitally reconstructed radiographs of CTs: the paper's geometry, by our own projector or by DiffDRR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from x2c.core.errors import UserError, unknown
from x2c.data.projection import attenuation
from x2c.data.radiograph import DRR_SOURCE_DETECTOR_MM, display
from x2c.data.volume import Array, Triple, Volume

if TYPE_CHECKING:
    from torch import Tensor

Matrix = NDArray[np.float64]

SOURCE_ISOCENTRE_MM = 850.0
"""Distance from the source to the isocentre, as the authors' (preprocess/preprocess_drr.py): 363 mm of chest fit."""
DETECTOR_PIXELS = 512
"""Pixels of 1 mm per side of the detector, as in the paper."""
SAMPLES_AT_ONCE = 2**20
"""Number of samples computed at once: some 20 MB of positions and values, which stay in the processor's cache."""
SLICES_AT_ONCE = 16
PATCH_PIXELS = 64
"""Pixels per side of the patch that DiffDRR traces at once: some 150 MB."""

ROTATION_DEG, TILT_DEG, LEAN_DEG = 8.0, 6.0, 4.0
"""Largest angles that a radiographer accepts: at a rotation of 8° the clavicles' ends are about 1 cm off the spine."""
SHIFT_MM = (25.0, 40.0, 20.0)
"""Largest shifts. Along z and x: distance of chests from the picture's middle; y: of the patient from the detector,
which changes the magnification by 5 %."""


@dataclass(frozen=True)
class Pose:
    """Position of a patient in the beam: degrees about the point it is aimed at, then mm (z, y, x: up, back, left).

    Positive angles turn the left side to the back (rotation, about the long axis), the head to the back (tilt) and the
    head to the left (lean); they are applied in this order.
    """

    rotation_deg: float = 0.0
    tilt_deg: float = 0.0
    lean_deg: float = 0.0
    shift_mm: Triple = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Matrix:
        """Return the matrix [4, 4] on homogeneous mm (z, y, x) about the middle, from before to after."""
        moved = np.eye(4)
        moved[:3, :3] = _turn(0, 2, self.lean_deg) @ _turn(0, 1, self.tilt_deg) @ _turn(2, 1, self.rotation_deg)
        moved[:3, 3] = self.shift_mm
        return moved


STRAIGHT = Pose()


def random_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose within the ranges above, uniform in each of them: an augmentation."""
    rotation, tilt, lean, z, y, x = rng.uniform(-1, 1, 6) * (ROTATION_DEG, TILT_DEG, LEAN_DEG, *SHIFT_MM)
    return Pose(float(rotation), float(tilt), float(lean), (float(z), float(y), float(x)))


def render_drr(
    volume: Volume,
    size: int = 224,
    pose: Pose = STRAIGHT,
    projector: Literal["torch", "diffdrr"] = "torch",
    device: str = "cpu",
    *,
    middle_mm: Triple | None = None,
) -> Array:
    """Return the radiograph [size, size] in [0, 1], float32, of a CT in any orientation: lung dark, bone bright.

    Antero-posterior: the source is in front of the patient, the detector behind, so the heart is magnified more than
    in a PA picture. As a reader sees it: row 0 superior, column 0 the patient's right. The paper's geometry (DiffDRR,
    source to detector 1200 mm, 512² pixels of 1 mm), aimed at `middle_mm` (z, y, x), the middle of the chest; by default
    at the middle of the volume, which may be the abdomen of a longer scan. Standardised and shown by
    `radiograph.display`, as the phantoms' pictures are: plain mean and deviation would depend on how much air there is
    beside the patient. These are the projections of prepared data; the phantom's and the atlas's are other pictures,
    postero-anterior in a field of view that fits the volume (`radiograph.fitted_drr`).

    `torch` is our own projector; `diffdrr` is DiffDRR's (Siddon's exact ray tracing), and raises UserError where the
    package is not installed. They give slightly different pictures, so it never depends on what is installed which one
    is used.
    """
    projectors = {"torch": line_integrals, "diffdrr": diffdrr_integrals}
    if projector not in projectors:
        raise unknown("projector", "projector", projector, projectors)
    return display(projectors[projector](volume, size, pose, device=device, middle_mm=middle_mm))


def line_integrals(
    volume: Volume,
    size: int = 224,
    pose: Pose = STRAIGHT,
    *,
    device: str = "cpu",
    middle_mm: Triple | None = None,
) -> Array:
    """Integrals [size, size] of linear attenuation from the source to each pixel, in the geometry of `render_drr`.

    The volume is averaged to voxels no larger than what a pixel sees of the middle plane. Rays about 1 mm apart on the
    detector are sampled where they cross the planes of voxels that face the beam most, which makes trilinear
    interpolation bilinear (Joseph, IEEE Trans. Med. Imaging 1982), and averaged over each pixel. Voxels outside the
    volume are air. Raises ValueError where the pose puts the volume round the source.
    """
    import torch

    pixel_mm = DETECTOR_PIXELS / size
    values, affine = _reduced(volume, pixel_mm * SOURCE_ISOCENTRE_MM / DRR_SOURCE_DETECTOR_MM)
    finer = max(1, round(pixel_mm))
    source, pixels = _beam(size * finer)
    # mm about the isocentre in the pose, to mm about it in the patient, to voxels.
    into = np.linalg.inv(affine) @ _shifted(middle_mm or _isocentre(volume)) @ np.linalg.inv(pose.matrix)
    facing = int(np.argmax(np.abs(into[:3, 1]) * np.linalg.norm(affine[:3, :3], axis=0)))
    start = into[:3, :3] @ source + into[:3, 3]
    rays = pixels.reshape(-1, 3) @ into[:3, :3].T + into[:3, 3] - start
    steps_mm = np.linalg.norm(pixels.reshape(-1, 3) - source, axis=1) / np.abs(rays[:, facing])
    sums = _sampled(torch.from_numpy(values).to(device), start, rays, facing)
    fine = (sums * torch.from_numpy(steps_mm).to(sums)).reshape(1, size * finer, size * finer)
    return torch.nn.functional.avg_pool2d(fine, finer)[0].cpu().numpy()


def diffdrr_integrals(
    volume: Volume,
    size: int = 224,
    pose: Pose = STRAIGHT,
    *,
    renderer: Literal["siddon", "trilinear"] = "siddon",
    device: str = "cpu",
    middle_mm: Triple | None = None,
) -> Array:
    """The same integrals [size, size] by DiffDRR, from the paper's 512² pixels.

    Of our attenuation: DiffDRR's own density has another scale for every volume, that of its densest voxel, and takes
    what is below -800 HU for air, which is much of an inflated lung. Raises UserError where it is not installed.
    """
    import torch

    try:
        from diffdrr.data import read
        from diffdrr.drr import DRR
        from diffdrr.pose import RigidTransform
        from torchio import ScalarImage
    except ImportError:
        raise UserError(
            "projector: expected the package diffdrr for 'diffdrr'; it is not installed; "
            "pip install 'x2c[drr]', or use 'torch'"
        ) from None
    # (z, y, x) to superior, posterior, left → (x, y, z) to right, anterior, superior.
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    affine = to_ras @ volume.affine[:, [2, 1, 0, 3]]
    subject = read(ScalarImage(tensor=torch.from_numpy(volume.hu.T[None].copy()), affine=affine), orientation="AP")
    subject.density.set_data(torch.from_numpy(attenuation(volume.hu).T[None].copy()))
    # DiffDRR's own isocentre is the volume's middle.
    z, y, x = (np.array(middle_mm or _isocentre(volume)) - _isocentre(volume)).tolist()
    source = _shifted((z, y, x)) @ np.linalg.inv(pose.matrix) @ _shifted((0.0, -SOURCE_ISOCENTRE_MM, 0.0))
    camera = to_ras @ source @ np.linalg.inv(to_ras)
    scene = DRR(
        subject,
        sdd=DRR_SOURCE_DETECTOR_MM,
        height=DETECTOR_PIXELS,
        delx=1.0,
        patch_size=PATCH_PIXELS,
        renderer=renderer,
    ).to(device)
    with torch.no_grad():
        projection = scene(RigidTransform(torch.from_numpy(camera).float().to(device)))
        resized = torch.nn.functional.interpolate(projection, (size, size), mode="bilinear", antialias=True)
    return resized[0, 0].cpu().numpy()


def _reduced(volume: Volume, largest_mm: float) -> tuple[Array, Matrix]:
    """Attenuation [D, H, W] averaged over whole numbers of voxels, up to `largest_mm`, and its affine."""
    factors = [max(1, int(largest_mm / spacing)) for spacing in volume.spacing_mm]
    thick = factors[0] * SLICES_AT_ONCE
    slabs = []
    for first in range(0, len(volume.hu), thick):
        slab = attenuation(volume.hu[first : first + thick])
        for axis, factor in enumerate(factors):
            slab = _averaged(slab, factor, axis)
        slabs.append(slab)
    coarser = np.diag([*factors, 1.0])
    coarser[:3, 3] = [(factor - 1) / 2 for factor in factors]
    return np.concatenate(slabs), volume.affine @ coarser


def _averaged(values: Array, factor: int, axis: int) -> Array:
    """Means of `factor` neighbours along an axis; beyond the last is air."""
    if factor == 1:
        return values
    along = np.moveaxis(values, axis, 0)
    total = along[::factor].copy()
    for offset in range(1, factor):
        later = along[offset::factor]
        total[: len(later)] += later
    return np.moveaxis(total / np.float32(factor), 0, axis)


def _beam(pixels: int) -> tuple[Matrix, Matrix]:
    """The source [3] and the centres [pixels, pixels, 3] of the detector's pixels, mm (z, y, x) about the isocentre."""
    across = (np.arange(pixels) + 0.5) * (DETECTOR_PIXELS / pixels) - DETECTOR_PIXELS / 2
    source = np.array([0.0, -SOURCE_ISOCENTRE_MM, 0.0])
    centres = np.empty((pixels, pixels, 3))
    centres[..., 0] = -across[:, None]
    centres[..., 1] = DRR_SOURCE_DETECTOR_MM - SOURCE_ISOCENTRE_MM
    centres[..., 2] = across
    return source, centres


def _sampled(values: Tensor, start: Matrix, rays: Matrix, facing: int) -> Tensor:
    """Sums [R] of values [D, H, W] where rays [R, 3] from `start`, in voxels, cross the planes along axis `facing`."""
    import torch

    planes = values.movedim(facing, 0)[:, None].contiguous()
    beyond = np.arange(len(planes)) - start[facing]
    if beyond[0] < 0 < beyond[-1]:
        raise ValueError("pose: expected the volume behind the source; it lies round it; shift it less")
    # grid_sample's coordinates, x before y: -1 and 1 are the outer faces of the first and the last voxel.
    across = [axis for axis in (2, 1, 0) if axis != facing]
    scale = 2 / np.array(values.shape)[across]
    origin, slopes, beyond = (
        torch.from_numpy(array).to(values)
        for array in (scale * (start[across] + 0.5) - 1, scale * rays[:, across] / rays[:, [facing]], beyond)
    )
    sums = []
    for some in slopes.split(max(1, SAMPLES_AT_ONCE // len(planes))):
        places = torch.addcmul(origin, beyond[:, None, None, None], some[None, None])
        sums.append(torch.nn.functional.grid_sample(planes, places, align_corners=False).sum(0).flatten())
    return torch.cat(sums)


def _isocentre(volume: Volume) -> Triple:
    """Return the middle of the volume, mm (z, y, x)."""
    z, y, x, _ = volume.affine @ [*((n - 1) / 2 for n in volume.hu.shape), 1.0]
    return float(z), float(y), float(x)


def _shifted(by_mm: Triple) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, 3] = by_mm
    return matrix


def _turn(start: int, end: int, degrees: float) -> Matrix:
    """Return the rotation [3, 3] that moves axis `start` towards axis `end`."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    matrix[start, start] = matrix[end, end] = cosine
    matrix[end, start], matrix[start, end] = sine, -sine
    return matrix
