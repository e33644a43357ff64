"""Coverage of a scan: frames, corners and rims of any fill are found, and lungs are judged inside of what was scanned."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from ct_files import chest
from grids import rotation, rows

from x2c.data.prepare.make import look
from x2c.data.preprocess.box import Box, box_of
from x2c.data.preprocess.chest import chest_box
from x2c.data.preprocess.coverage import coverage, filled_with_air, trimmed, uncovered_share
from x2c.data.preprocess.lungs import volume_ml
from x2c.data.preprocess.resample import AIR_HU
from x2c.data.volume import Volume

FILLS = [0, -1024, 3071]


@pytest.fixture(scope="module")
def good() -> Volume:
    return chest()


@pytest.fixture(scope="module")
def cut(good) -> Volume:
    """Without the upper two fifths."""
    return Volume(good.hu[:36], good.spacing_mm, good.origin_mm)


def turned(volume: Volume, degrees: float) -> Volume:
    return Volume(volume.hu, volume.spacing_mm, volume.origin_mm, rows(rotation((0, degrees, 0))))


def resampled(volume: Volume, fill: float) -> Volume:
    """As other programs do it: linearly, to the patient's axes, with a fill where there is nothing."""
    image = sitk.GetImageFromArray(volume.hu)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm[::-1])
    image.SetDirection(np.array(volume.direction)[::-1, ::-1].ravel().tolist())
    box = box_of(volume)
    shape = box.shape_at(2.5)
    spacing, origin = box.spacing_mm(shape), box.origin_mm(shape)
    identity = np.eye(3).ravel().tolist()
    made = sitk.Resample(
        image, shape[::-1], sitk.Transform(), sitk.sitkLinear, origin[::-1], spacing[::-1], identity, float(fill)
    )
    return Volume(np.rint(sitk.GetArrayFromImage(made)).astype(np.float32), spacing, origin)


def padded(volume: Volume, fill: float, by: tuple[int, int, int]) -> Volume:
    hu = np.pad(volume.hu, [(n, n) for n in by], constant_values=fill)
    z, y, x = (start - n * mm for start, n, mm in zip(volume.origin_mm, by, volume.spacing_mm, strict=True))
    return Volume(hu, volume.spacing_mm, (z, y, x))


def told(volume: Volume) -> list[str]:
    return [text for severity, text in look(volume, "threshold")[1] if severity != "note"]


def found(volume: Volume) -> tuple[list[str], float, Box]:
    """What is told of a volume, the volume of its lungs, ml, and the chest's box."""
    looked, remarks = look(volume, "threshold")
    texts = [text for severity, text in remarks if severity != "note"]
    box = chest_box(looked.seen, looked.lungs, looked.seen_covered, 5)
    return texts, volume_ml(looked.lungs.mask, looked.seen), box


@pytest.fixture(scope="module")
def expected(good) -> tuple[float, Box]:
    """The volume of the good chest's lungs, and its box."""
    _, ml, box = found(good)
    return ml, box


def test_all_of_a_scan_is_covered(good):
    volume, planes = trimmed(good)
    assert volume is good and planes == (0, 0, 0)
    covered = coverage(good)
    assert covered.is_whole and filled_with_air(good, covered) is good
    assert uncovered_share(good, covered, box_of(good)) == 0


@pytest.mark.parametrize(
    ("by", "fill"), [((3, 10, 20), -1024), ((3, 10, 20), 3071), ((0, 10, 20), 0), ((5, 0, 0), -3024)]
)
def test_a_frame_changes_nothing(by, fill, good):
    framed = padded(good, fill, by)
    volume, planes = trimmed(framed)
    assert planes == tuple(2 * n for n in by)
    np.testing.assert_array_equal(volume.hu, good.hu)
    np.testing.assert_allclose(volume.affine, good.affine)
    assert told(framed) == []


def test_a_frame_that_repeats_the_outer_slices_is_one_too(good):
    repeated = Volume(np.pad(good.hu, [(4, 2), (0, 0), (3, 0)], mode="edge"), good.spacing_mm)
    assert trimmed(repeated)[1] == (6, 0, 3)


def test_slices_without_noise_are_no_copies_of_each_other():
    smooth = Volume(
        np.tile(np.linspace(-1000, 500, 40, dtype=np.float32)[:, None] // 100 * 100, (20, 1, 40)), (3, 3, 3)
    )
    assert trimmed(smooth)[1] == (0, 0, 0)


def test_a_volume_of_one_value_is_left_as_it_is():
    same = Volume(np.full((10, 12, 14), 7, np.float32), (3, 3, 3))
    assert trimmed(same)[0] is same and coverage(same).is_whole


@pytest.mark.parametrize("fill", FILLS)
def test_a_circular_field_is_known_whatever_surrounds_it(fill, good, expected):
    y, x = np.indices(good.hu.shape[1:])
    outside = (y - 63.5) ** 2 + (x - 63.5) ** 2 > 62**2
    hu = good.hu.copy()
    hu[:, outside] = fill
    volume = Volume(hu, good.spacing_mm, good.origin_mm)
    covered = coverage(volume)
    # The voxels beside the fill count to it.
    assert covered.mask[:, ~outside].mean() > 0.95 and not covered.mask[:, outside].any()
    assert (filled_with_air(volume, covered).hu[:, outside] == AIR_HU).all()
    texts, ml, box = found(volume)
    assert texts == []
    assert ml == pytest.approx(expected[0], rel=0.01)
    np.testing.assert_allclose(box.size_mm, expected[1].size_mm, atol=3.5)


@pytest.fixture(scope="module")
def scanned(good) -> np.ndarray:
    """The covered part of the oblique volume."""
    everywhere = Volume(np.ones_like(good.hu), good.spacing_mm, good.origin_mm, turned(good, 6).direction)
    return resampled(everywhere, 0).hu > 0.5


@pytest.mark.parametrize("fill", FILLS)
def test_the_corners_of_an_oblique_volume_are_known_whatever_fills_them(fill, good, expected, scanned):
    volume, truth = resampled(turned(good, 6), fill), scanned
    covered = coverage(volume)
    of_truth = covered.on(truth.shape, truth.shape)
    assert (of_truth & ~truth).mean() < 0.01 and (of_truth & truth).sum() > 0.93 * truth.sum()
    texts, ml, _ = found(volume)
    assert ml == pytest.approx(expected[0], rel=0.02)
    assert [text for text in texts if "unusual" not in text] == []


@pytest.mark.parametrize("degrees", [0, 0.5, 3, -6])
def test_cut_lungs_are_seen_however_the_scan_is_turned(degrees, cut):
    (text,) = [text for text in told(turned(cut, degrees)) if "cut off" in text]
    assert text.startswith("the lungs are cut off above: ")


@pytest.mark.parametrize(("degrees", "fill"), [(1, 0), (1, -3024), (6, -1024), (6, 3071)])
def test_cut_lungs_are_seen_beside_any_fill(degrees, fill, cut):
    assert any(text.startswith("the lungs are cut off above: ") for text in told(resampled(turned(cut, degrees), fill)))
    assert any(text.startswith("the lungs are cut off above: ") for text in told(padded(cut, fill, (5, 0, 0))))


@pytest.mark.parametrize("fill", FILLS)
def test_a_field_that_cuts_the_lungs_at_the_sides_is_told(fill, good):
    y, x = np.indices(good.hu.shape[1:])
    hu = good.hu.copy()
    hu[:, (y - 63.5) ** 2 + (x - 63.5) ** 2 > 42**2] = fill
    texts = told(Volume(hu, good.spacing_mm, good.origin_mm))
    assert any(text.startswith("the field of view cuts the lungs off at the sides: ") for text in texts)


@pytest.mark.parametrize("spread", [0.01, 0.3, 2.0])
def test_slices_that_are_as_good_as_constant_are_a_frame(spread, cut):
    air = np.random.default_rng(1).normal(-1000, spread, (6, 128, 128))
    hu = np.concatenate([cut.hu, air]).astype(np.float32)
    assert any("cut off above" in text for text in told(Volume(hu, cut.spacing_mm, cut.origin_mm)))


def test_a_body_whose_surroundings_were_taken_away_is_a_good_one(good):
    from scipy import ndimage

    body = np.stack([ndimage.binary_fill_holes(ndimage.binary_opening(plane > -500)) for plane in good.hu])
    for fill in (-1024, 0):
        assert told(Volume(np.where(body, good.hu, fill).astype(np.float32), good.spacing_mm)) == []


def test_a_hollow_table_is_no_lung(good, expected):
    hu = np.pad(good.hu, [(0, 0), (0, 24), (0, 0)], constant_values=-1000)
    hu[:, 128:] += np.random.default_rng(2).normal(0, 10, hu[:, 128:].shape)
    hu[:, 130:146, 4:124] = -200
    hu[:, 131:145, 5:123] = np.random.default_rng(3).normal(-960, 10, (60, 14, 118))
    volume = Volume(hu.astype(np.float32), good.spacing_mm, good.origin_mm)
    texts, ml, _ = found(volume)
    assert texts == [] and ml == pytest.approx(expected[0], rel=0.02)


def test_the_share_of_a_box_outside_of_the_scan(good):
    covered = coverage(good)
    inside = box_of(good)
    (z, y, x), (z1, y1, x1) = inside.low_mm, inside.high_mm
    half = Box((z - (z1 - z), y, x), (z1, y1, x1))
    assert uncovered_share(good, covered, half) == pytest.approx(0.5, abs=0.03)


def test_lungs_under_blankets_and_on_a_table_are_not_cut_at_the_sides(good):
    """Foam is as dense as lung and reaches the sides."""
    hu = good.hu.copy()
    hu[:, 118:124] = np.random.default_rng(3).normal(-900, 10, (60, 6, 128))
    hu[:, 2:5] = np.random.default_rng(4).normal(-870, 10, (60, 3, 128))
    assert told(Volume(hu, good.spacing_mm, good.origin_mm)) == []
