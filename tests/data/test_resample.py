"""Boxes and resampling: what lies where, what stays as it is, and what is averaged."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ct_files import turned
from grids import centres, few, noise, rotation, rows, seeds
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from x2c.data.preprocess.box import Box, box_of, is_aligned
from x2c.data.preprocess.resample import AIR_HU, DENSEST_HU, axis_matrix, reduced, resample, resized
from x2c.data.preprocess.steps import upright
from x2c.data.volume import Volume

shapes = st.tuples(*[st.integers(2, 12)] * 3)
spacings = st.tuples(*[st.floats(0.5, 6)] * 3)
origins = st.tuples(*[st.floats(-300, 300)] * 3)


# Boxes


@few
@given(shapes, spacings, origins)
def test_the_box_of_a_volume_gives_its_grid_back(shape, spacing, origin):
    box = box_of(Volume(np.zeros(shape, np.float32), spacing, origin))
    np.testing.assert_allclose(box.spacing_mm(shape), spacing)
    np.testing.assert_allclose(box.origin_mm(shape), origin, atol=1e-9)
    np.testing.assert_allclose(box.size_mm, np.multiply(shape, spacing))


def test_boxes_grow_meet_and_are_cut():
    box = Box((0, 10, 20), (30, 20, 25))
    assert box.grown(5) == Box((-5, 5, 15), (35, 25, 30))
    assert box.grown(5).within(box) == box == box.within(box.grown(5))
    assert box.within(Box((10, 0, 22), (50, 15, 24))) == Box((10, 10, 22), (30, 15, 24))
    assert box.shape_at(3) == (10, 3, 2) and box.shape_at(100) == (1, 1, 1)
    for low, high in (((0, 0, 0), (1, 0, 1)), ((2, 0, 0), (1, 1, 1))):
        with pytest.raises(ValueError, match="low_mm < high_mm"):
            Box(low, high)
    with pytest.raises(ValueError, match="low_mm < high_mm"):
        box.within(Box((40, 0, 0), (50, 50, 50)))


def test_the_box_of_an_oblique_volume_holds_its_corners():
    volume = Volume(np.zeros((4, 5, 6), np.float32), (5, 3, 2), (7, 8, 9), rows(rotation((10, -20, 30))))
    box, places = box_of(volume), centres(volume).reshape(3, -1)
    assert (places.min(1) > box.low_mm).all() and (places.max(1) < box.high_mm).all()
    assert (np.array(box.size_mm) < np.array([20, 15, 12]).sum()).all()


# Weights


@few
@given(st.integers(2, 40), st.floats(0.2, 9), st.floats(0, 1))
def test_weights_sum_to_one(old, step, shift):
    places = shift * old + step * np.arange(5)
    matrix = axis_matrix(old, places[places < old], step)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)


@few
@given(st.integers(2, 40), seeds)
def test_voxels_at_their_own_places_keep_their_values(old, seed):
    np.testing.assert_allclose(axis_matrix(old, np.arange(old), 1.0), np.eye(old), atol=1e-5)
    fine = axis_matrix(old, np.arange(2 * old - 1) / 2, 0.5) @ noise((old,), seed)
    np.testing.assert_allclose(fine[::2], noise((old,), seed), atol=0.02, err_msg="a spline goes through its samples")


# Resampling


@few
@given(shapes, spacings, origins, seeds)
def test_its_own_grid_changes_nothing(shape, spacing, origin, seed):
    volume = Volume(noise(shape, seed), spacing, origin)
    made = resample(volume, box_of(volume), shape)
    np.testing.assert_allclose(made.hu, volume.hu, atol=2e-3)
    np.testing.assert_allclose(made.affine, volume.affine, atol=1e-9)


@few
@given(shapes, shapes, spacings, st.floats(AIR_HU, DENSEST_HU))
def test_constants_stay_constant(shape, new, spacing, value):
    volume = Volume(np.full(shape, value, np.float32), spacing)
    np.testing.assert_allclose(resample(volume, box_of(volume), new).hu, value, atol=0.05)


@few
@given(st.tuples(*[st.integers(36, 44)] * 3), st.tuples(*[st.integers(12, 60)] * 3), spacings, origins)
def test_slopes_are_kept_away_from_the_edges(shape, new, spacing, origin):
    slope = np.array([1.5, -2.0, 1.0])[:, None, None, None]
    volume = Volume(np.zeros(shape, np.float32), spacing, origin)
    middle = np.array(box_of(volume).low_mm).mean() + 50
    volume = Volume((slope * (centres(volume) - middle)).sum(0).astype(np.float32) / 10, spacing, origin)
    made = resample(volume, box_of(volume), new)
    truth = (slope * (centres(made) - middle)).sum(0) / 10
    # Ends are mirrored: a slope has a kink there, which neighbours feel.
    margin = (8 * np.array(volume.spacing_mm) + 2 * np.array(made.spacing_mm))[:, None, None, None]
    low, high = (np.reshape(edge, (3, 1, 1, 1)) for edge in (box_of(volume).low_mm, box_of(volume).high_mm))
    inner = ((centres(made) > low + margin) & (centres(made) < high - margin)).all(0)
    assert inner.any()
    np.testing.assert_allclose(made.hu[inner], truth[inner], atol=0.02)


@few
@given(st.tuples(*[st.integers(-3, 3)] * 3), seeds)
def test_whole_voxels_are_cut_out_as_they_are(shift, seed):
    volume = Volume(noise((12, 13, 14), seed), (2.0, 1.0, 3.0), (5.0, 6.0, 7.0))
    inner = volume.hu[3:9, 3:9, 3:9]
    low = np.array(volume.origin_mm) + (np.array([3, 3, 3]) + shift - 0.5) * volume.spacing_mm
    box = Box(tuple(low), tuple(low + np.array([6, 6, 6]) * volume.spacing_mm))
    made = resample(volume, box, (6, 6, 6))
    a, b, c = (3 + step for step in shift)
    np.testing.assert_allclose(made.hu, volume.hu[a : a + 6, b : b + 6, c : c + 6], atol=5e-3)
    assert (np.abs(made.hu - inner).max() < 1) == (shift == (0, 0, 0))


@few
@given(st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3), seeds)
def test_reducing_conserves_the_mean(new, factors, seed):
    new = tuple(4 * count for count in new)
    values = ndimage.gaussian_filter(noise(np.multiply(new, factors), seed), 1, mode="nearest") + 100
    made = reduced(values, new)
    assert made.shape == new
    assert made.mean(dtype=float) == pytest.approx(values.mean(dtype=float), abs=0.01 * float(np.abs(values).max()))


def test_what_shrinks_does_not_alias():
    """A pattern finer than the new voxels becomes its mean; picking voxels would keep it."""
    stripes = np.tile(np.float32([500, -500]), 32)[None, None].repeat(8, 0).repeat(8, 1)
    assert np.abs(reduced(stripes, (8, 8, 16))).max() < 30
    checks = np.indices((64, 64)).sum(0) % 2 * np.float32(1)
    np.testing.assert_allclose(resized(checks, 16), 0.5, atol=0.03)
    np.testing.assert_array_equal(resized(checks, 64), checks)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_how_an_array_is_stored_does_not_matter(order):
    volume = Volume(noise((9, 10, 11)), (3.0, 2.0, 2.5), (10.0, -20.0, 30.0))
    box = box_of(volume).grown(-3)
    expected = resample(volume, box, (7, 12, 6)).hu
    oblique = Volume(volume.hu, volume.spacing_mm, volume.origin_mm, rows(rotation((12, -8, 20))))
    expected_oblique = resample(oblique, box_of(oblique), (7, 12, 6)).hu
    assert np.ptp(expected) > 500 and np.ptp(expected_oblique) > 500
    for flips in itertools.product((False, True), repeat=3):
        layout = order, [axis for axis in range(3) if flips[axis]]
        np.testing.assert_allclose(resample(upright(turned(volume, *layout)), box, (7, 12, 6)).hu, expected, atol=0.02)
        for lying in (turned(oblique, *layout), upright(turned(oblique, *layout))):
            made = resample(lying, box_of(oblique), (7, 12, 6)).hu
            assert np.abs(made - expected_oblique).mean() < 0.02 and (np.abs(made - expected_oblique) > 1).mean() < 0.01


def wave(places: np.ndarray) -> np.ndarray:
    """HU that vary by some hundred over some cm, at places [3, …]."""
    z, y, x = places
    return 200 * np.sin(z / 17) * np.cos(y / 14 + 1) + 150 * np.sin(x / 12 + y / 40)


@few
@given(st.tuples(*[st.floats(-30, 30)] * 3), st.tuples(*[st.floats(1.5, 3)] * 3), origins)
@example((0.0, 0.0, 0.02), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
@example((0.3, 0.0, 0.0), (2.0, 2.0, 2.0), (300.0, 0.0, 0.0))
def test_an_oblique_volume_gives_what_lies_there(degrees, spacing, origin):
    """Also one that is turned by hardly anything, to either side of what counts as aligned."""
    turn = rotation(degrees)
    volume = Volume(np.zeros((40, 40, 40), np.float32), spacing, origin, rows(turn))
    middle = centres(volume).reshape(3, -1).mean(1)
    volume = Volume(wave(centres(volume) - middle[:, None, None, None]).astype(np.float32), spacing, origin, rows(turn))
    reach = 20 * min(spacing) / 3**0.5
    made = resample(volume, Box(tuple(middle - reach), tuple(middle + reach)), (15, 16, 17))
    truth = wave(centres(made) - middle[:, None, None, None])
    inner = (slice(2, -2),) * 3
    assert np.abs(made.hu - truth)[inner].max() < 20
    assert np.sqrt(np.square(made.hu - truth)[inner].mean()) < 5
    shifted = wave(centres(made) - middle[:, None, None, None] + 1.5)
    assert np.sqrt(np.square(made.hu - shifted)[inner].mean()) > 10, "1.5 mm would show"


def test_a_volume_of_larger_voxels_oblique_is_averaged():
    base = Volume(noise((60, 60, 60)) / 3, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), rows(rotation((0, 0, 25))))
    middle = centres(base).reshape(3, -1).mean(1)
    lying = Volume(base.hu, base.spacing_mm)
    spread = [
        resample(v, Box(tuple(m - 18), tuple(m + 18)), (9, 9, 9)).hu.std()
        for v, m in ((base, middle), (lying, np.full(3, 29.5)))
    ]
    assert spread[0] == pytest.approx(spread[1], rel=0.35) and spread[0] < base.hu.std() / 4


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 0, 20)])
def test_outside_is_air(degrees):
    volume = Volume(np.full((10, 10, 10), 50, np.float32), (2.0, 2.0, 2.0), direction=rows(rotation(degrees)))
    assert is_aligned(volume) == (degrees == (0, 0, 0))
    made = resample(volume, box_of(volume).grown(20), (24, 24, 24))
    assert made.hu[0].max() == made.hu[:, -1].max() == made.hu[..., 0].max() == AIR_HU
    assert made.hu[12, 12, 12] == pytest.approx(50, abs=2)
    share = (made.hu > -400).mean() * np.prod(box_of(volume).grown(20).size_mm)
    assert share == pytest.approx(8000, rel=0.2), "as much body as there was"


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 0, 20)])
def test_padding_does_not_ring_into_the_body(degrees):
    """−2048 around a body of 40 HU, as scanners pad the corners, is as air is."""
    hu = np.full((8, 40, 40), 40, np.float32)
    hu[:, np.hypot(*(np.indices((40, 40)) - 19.5)) > 14] = -2048
    made = {}
    for padding in (-2048, -1024):
        volume = Volume(
            np.where(hu < -500, padding, hu).astype(np.float32), (1, 1, 1), direction=rows(rotation(degrees))
        )
        made[padding] = resample(volume, box_of(volume), (8, 55, 53)).hu
    np.testing.assert_array_equal(made[-2048], made[-1024])
    assert made[-2048].max() < 40 + 0.2 * 1064 and made[-2048].min() >= AIR_HU


def ellipsoids(places: np.ndarray) -> np.ndarray:
    """A body, two lungs, a heart and vessels with edges of about 1.5 mm, at places [3, …] from the middle."""
    hu = np.full(places.shape[1:], -1000.0)
    for value, centre, radii in (
        (40, (0, 0, 0), (70, 34, 46)),
        (-850, (0, 0, -22), (40, 24, 16)),
        (-850, (2, 1, 22), (38, 22, 15)),
        (50, (-10, -6, 8), (16, 14, 14)),
        (150, (5, 2, -24), (4, 4, 12)),
        (150, (-8, 4, 24), (14, 3, 3)),
        (300, (0, 24, 0), (70, 6, 7)),
    ):
        offset = places - np.reshape(centre, (3, 1, 1, 1))
        radius = np.sqrt(np.square(offset / np.reshape(radii, (3, 1, 1, 1))).sum(0))
        inside = 1 / (1 + np.exp((radius - 1) * min(radii) / 0.75))
        hu += inside * (value - hu)
    return hu


def averaged(grid: Volume, times: int) -> np.ndarray:
    """Means of the ellipsoids over a grid's voxels, from times³ samples in each."""
    total = np.zeros(grid.hu.shape)
    offsets = (np.arange(times) + 0.5) / times - 0.5
    for offset in itertools.product(offsets, repeat=3):
        step = np.multiply(offset, grid.spacing_mm).reshape(3, 1, 1, 1)
        total += ellipsoids(centres(grid) + step)
    return total / times**3


@pytest.mark.parametrize("thick", [(1.5, 0.8, 0.8), (2.5, 0.7, 0.7), (5.0, 0.75, 0.75)])
def test_one_resampling_is_no_worse_than_the_papers_two(thick):
    """The paper goes to 1 mm by a cubic zoom, then to the target's shape by another one."""
    field = (90.0, 72.0, 96.0)
    shape = tuple(round(size / mm) for size, mm in zip(field, thick, strict=True))
    spacing = tuple(size / count for size, count in zip(field, shape, strict=True))
    origin = tuple(-size / 2 + mm / 2 for size, mm in zip(field, spacing, strict=True))
    scanned = Volume(np.zeros(shape, np.float32), spacing, origin)
    scanned = Volume(averaged(scanned, 2).astype(np.float32), spacing, origin)
    box, new = box_of(scanned), (32, 48, 48)
    ours = resample(scanned, box, new)
    truth = averaged(ours, 3)
    isotropic = ndimage.zoom(scanned.hu, np.divide(field, shape), order=3, grid_mode=True, mode="grid-mirror")
    theirs = ndimage.zoom(isotropic, np.divide(new, isotropic.shape), order=3, grid_mode=True, mode="grid-mirror")
    assert theirs.shape == ours.hu.shape
    error = [float(np.sqrt(np.square(made - truth).mean())) for made in (ours.hu, theirs)]
    assert error[0] <= error[1], error
    assert error[0] < 60
