"""A box that is right for the chest: with one lung, gas in the bowel, a windpipe, and a scan of more than a chest."""

from __future__ import annotations

import numpy as np
import pytest
from ct_files import chest

from x2c.data.prepare.make import look
from x2c.data.preprocess.chest import chest_box, lung_sides
from x2c.data.preprocess.lungs import volume_ml
from x2c.data.volume import Volume

MM = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def good() -> Volume:
    return chest((110, 107, 107), MM)


@pytest.fixture(scope="module")
def seen(good):
    """What is seen of the good chest, and its box."""
    looked, box, _ = boxed(good)
    return looked, box


@pytest.fixture(scope="module")
def longer(good) -> Volume:
    """The good chest with 150 mm more below it."""
    room = np.repeat(good.hu[:2], 25, 0) + np.random.default_rng(1).normal(0, 4, (50, 107, 107))
    return with_hu(good, np.concatenate([room, good.hu]))


@pytest.fixture(scope="module")
def box_of_longer(longer):
    return boxed(longer)[1]


def with_hu(volume: Volume, hu: np.ndarray) -> Volume:
    return Volume(hu.astype(np.float32), volume.spacing_mm, volume.origin_mm)


def boxed(volume: Volume):
    looked, remarks = look(volume, "threshold")
    box = chest_box(looked.seen, looked.lungs, looked.seen_covered, 5.0)
    return looked, box, remarks


def warned(remarks):
    return [text for severity, text in remarks if severity == "warning" and "unusual pixels" not in text]


def ball(shape, centre, ml):
    radius = (ml * 1000 * 3 / 4 / np.pi) ** (1 / 3) / 3
    places = np.indices(shape).transpose(1, 2, 3, 0) - np.array(centre)
    return (places**2).sum(-1) < radius**2


def test_both_lungs_are_measured_by_their_side(seen):
    looked, _ = seen
    sides = lung_sides(looked.seen, looked.lungs, looked.seen_covered)
    assert sides.right_ml + sides.left_ml == pytest.approx(volume_ml(looked.lungs.mask, looked.seen))
    assert 1 < sides.right_ml / sides.left_ml < 1.6, "the heart lies in the left one"


@pytest.mark.parametrize("side", ["right", "left"])
def test_one_lung_stands_for_both(side, good, seen):
    hu = good.hu.copy()
    looked, whole = seen
    half = np.zeros_like(looked.lungs.mask)
    half[..., :53] = True
    hu[looked.lungs.mask & (half if side == "right" else ~half)] = 25
    _, box, remarks = boxed(with_hu(good, hu))
    assert [severity for severity, text in remarks if f"on the patient's {side}" in text] == ["warning"]
    np.testing.assert_allclose(box.low_mm, whole.low_mm, atol=14)
    np.testing.assert_allclose(box.high_mm, whole.high_mm, atol=14)
    assert box.size_mm[2] == pytest.approx(whole.size_mm[2], abs=20)


@pytest.mark.parametrize("ml", [90, 160, 400, 900])
def test_gas_in_the_bowel_does_not_stretch_the_box(ml, good, longer, box_of_longer):
    whole, hu = box_of_longer, longer.hu.copy()
    hu[ball(hu.shape, (28, 45, 68), ml)] = -1000
    looked, box, remarks = boxed(with_hu(good, hu))
    np.testing.assert_allclose(box.low_mm, whole.low_mm, atol=4)
    np.testing.assert_allclose(box.high_mm, whole.high_mm, atol=4)
    # A pocket of less than 15 % of a lung is none whatever it holds.
    taken = ml > 300
    assert [text.split(" ml ")[1] for text in warned(remarks)] == [
        "of gas below the lungs were taken for bowel, and left out of the box"
    ] * taken
    assert looked.lungs.bowel_ml == pytest.approx(ml * taken, rel=0.25)


def test_gas_that_touches_a_lung_is_parted_from_it(good, seen):
    """The stomach right below the left lung, without a wall that a coarse voxel could hold."""
    before, whole = seen
    hu, lungs = good.hu.copy(), before.lungs.mask
    bottom = int(np.flatnonzero(lungs[..., 70:90].any((1, 2)))[0])
    hu[ball(hu.shape, (bottom - 8, 52, 79), 250)] = -1000
    looked, box, remarks = boxed(with_hu(good, hu))
    assert box.low_mm[0] == pytest.approx(whole.low_mm[0], abs=16)
    assert looked.lungs.bowel_ml > 150 and any("were taken for bowel" in text for _, text in remarks)


@pytest.mark.parametrize("share", [0.35, 0.5])
def test_effusions_of_both_lungs_do_not_shorten_the_box(share, good, seen):
    looked, whole = seen
    slices = np.flatnonzero(looked.lungs.mask.any((1, 2)))
    level = int(slices[0] + share * len(slices))
    low = np.arange(110)[:, None, None] < level
    below = np.repeat(good.hu[:2], 5, 0) + np.random.default_rng(1).normal(0, 4, (10, 107, 107))
    hu = np.where(looked.lungs.mask & low, 15, good.hu)
    volume = Volume(np.concatenate([below, hu]).astype(np.float32), MM, (good.origin_mm[0] - 30, *good.origin_mm[1:]))
    _, box, remarks = boxed(volume)
    assert any("the lungs are low for their width" in text for text in warned(remarks))
    assert box.size_mm[0] > 0.82 * whole.size_mm[0]


@pytest.mark.parametrize(("end", "share"), [("behind", 0.35), ("in front", 0.5)])
def test_effusions_of_both_lungs_do_not_flatten_the_box(end, share, good, seen):
    looked, whole = seen
    rows = np.flatnonzero(looked.lungs.mask.any((0, 2)))
    y = np.arange(107)[None, :, None]
    opaque = y > rows[-1] - share * len(rows) if end == "behind" else y < rows[0] + share * len(rows)
    _, box, remarks = boxed(with_hu(good, np.where(looked.lungs.mask & opaque, 15, good.hu)))
    assert any("the lungs fill little of the chest's depth" in text for text in warned(remarks))
    assert box.size_mm[1] == pytest.approx(whole.size_mm[1], abs=25)


def test_an_airway_does_not_stretch_the_box(good, seen):
    """A neck above the chest, with a windpipe of 20 mm through all of it that ends in the right lung."""
    neck = np.where(good.hu[-1:] > -500, 40, good.hu[-1:]).repeat(40, 0)
    hu = np.concatenate([good.hu, neck]) + np.random.default_rng(2).normal(0, 3, (150, 107, 107))
    y, x = np.indices(hu.shape[1:])
    tube = ((y - 56) ** 2 + (x - 53) ** 2) < 3.4**2
    hu[70:, tube] = -995
    hu[70:76, 52:60, 40:54] = np.minimum(hu[70:76, 52:60, 40:54], -900)
    _, box, _ = boxed(with_hu(good, hu))
    _, whole = seen
    assert box.high_mm[0] == pytest.approx(whole.high_mm[0], abs=10)


def test_a_longer_scan_is_noted_and_its_box_is_the_chests(good, seen):
    _, whole = seen
    below = np.repeat(good.hu[:2], 25, 0) + np.random.default_rng(1).normal(0, 4, (50, 107, 107))
    volume = Volume(
        np.concatenate([below, good.hu]).astype(np.float32), MM, (good.origin_mm[0] - 150, *good.origin_mm[1:])
    )
    _, box, remarks = boxed(volume)
    np.testing.assert_allclose(box.low_mm, whole.low_mm, atol=1.5)
    np.testing.assert_allclose(box.high_mm, whole.high_mm, atol=1.5)
    (note,) = [remark for remark in remarks if "unusual pixels" not in remark[1]]
    assert note[0] == "note" and " cm below the lungs; the chest is cut out of it" in note[1]


@pytest.mark.parametrize("degrees", [1.0, 8.0])
def test_a_turned_scan_has_the_box_of_the_patient(degrees, good, seen):
    """The same chest in a grid that was turned about the patient's left-right axis: its box grows by the turn alone."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = Volume(good.hu, MM, good.origin_mm, ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))
    looked, box, _ = boxed(turned)
    _, straight = seen
    places = np.argwhere(looked.lungs.mask)
    points = places @ looked.seen.affine[:3, :3].T + looked.seen.affine[:3, 3]
    assert (points.min(0) > np.array(box.low_mm)).all() and (points.max(0) < np.array(box.high_mm)).all()
    np.testing.assert_allclose(box.size_mm[2], straight.size_mm[2], atol=0.5)
    assert 0 <= box.size_mm[0] - straight.size_mm[0] < 200 * s + 10
