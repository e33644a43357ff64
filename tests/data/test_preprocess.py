"""From a CT as it came to the lungs' box on the target grid: the steps, and where the lungs are."""

from __future__ import annotations

import itertools
import sys
import types
import urllib.error
import warnings

import numpy as np
import pytest
from ct_files import chest, turned
from grids import centres, few, noise, rotation, rows, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from x2c.core.errors import UserError
from x2c.data.preprocess.box import box_of
from x2c.data.preprocess.chest import chest_box
from x2c.data.preprocess.lungs import Lungs, find_lungs, volume_ml
from x2c.data.preprocess.resample import resample
from x2c.data.preprocess.steps import coarse, halves, on_grid, upright
from x2c.data.volume import Volume, mirrored


@pytest.fixture(scope="module")
def chest_seen():
    whole = chest((100, 107, 107), (3.0, 3.0, 3.0))
    seen = coarse(whole)
    return whole, seen, lung_mask(seen)


def lung_mask(seen: Volume, segmenter: str = "threshold"):
    return find_lungs(seen, everywhere(seen), segmenter).mask


def lung_box(seen: Volume, mask, margin_mm: float):
    return chest_box(seen, Lungs(mask), everywhere(seen), margin_mm)


def everywhere(seen: Volume):
    return np.ones(seen.hu.shape, bool)


# Steps


@pytest.mark.parametrize("degrees", [(0, 0, 0), (8, -12, 15)])
def test_upright_moves_no_voxel(degrees):
    base = Volume(noise((4, 5, 6)), (3.0, 2.0, 1.5), (10.0, -20.0, 30.0), rows(rotation(degrees)))
    places = {
        round(float(value), 3): place
        for value, place in zip(base.hu.ravel(), centres(base).reshape(3, -1).T, strict=True)
    }
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            made = upright(turned(base, order, [axis for axis in range(3) if flips[axis]]))
            np.testing.assert_array_equal(made.hu, base.hu)
            for value, place in zip(made.hu.ravel(), centres(made).reshape(3, -1).T, strict=True):
                np.testing.assert_allclose(place, places[round(float(value), 3)], atol=1e-6)
            again = upright(made)
            np.testing.assert_array_equal(again.hu, made.hu)
            np.testing.assert_allclose(again.affine, made.affine, atol=1e-12)
            assert (np.diag(made.direction) > 0.9).all()


def test_the_coarse_volume_spans_the_whole(chest_seen):
    whole, seen, _ = chest_seen
    np.testing.assert_allclose(box_of(seen).low_mm, box_of(whole).low_mm)
    np.testing.assert_allclose(box_of(seen).high_mm, box_of(whole).high_mm)
    assert max(abs(mm - 3) for mm in seen.spacing_mm) < 0.1


def test_the_target_grid_is_whole_hu(chest_seen):
    whole, seen, mask = chest_seen
    box = lung_box(seen, mask, 5)
    made = on_grid(whole, box, (16, 24, 24))
    assert made.dtype == np.int16 and made.shape == (16, 24, 24)
    np.testing.assert_allclose(made, resample(whole, box, (16, 24, 24)).hu, atol=0.5)


@few
@given(st.integers(1, 6), seeds)
def test_halves_interleave_to_the_whole(half, seed):
    hu = noise((2 * half, 3, 4), seed).astype(np.int16)
    even, odd = halves(hu)
    whole = np.empty_like(hu)
    whole[0::2], whole[1::2] = even, odd
    np.testing.assert_array_equal(whole, hu)
    assert not np.array_equal(even, odd)


def test_mirrored_twice_is_as_it_was():
    hu = noise((2, 3, 4, 5))
    np.testing.assert_array_equal(mirrored(mirrored(hu)), hu)
    np.testing.assert_array_equal(mirrored(hu)[..., 0], hu[..., -1])


# Lungs


def test_the_lungs_are_found(chest_seen):
    whole, seen, mask = chest_seen
    truth = ndimage.gaussian_filter(whole.hu, 0.5) < -405
    body = ndimage.binary_fill_holes(ndimage.binary_opening(~truth, iterations=2).any(0)[None].repeat(len(truth), 0)[0])
    truth &= body
    known = truth.sum() * 27 / 1000
    assert known == pytest.approx(3580, rel=0.03)
    assert volume_ml(mask, seen) == pytest.approx(known, rel=0.08)
    assert (mask & truth).sum() * 2 / (mask.sum() + truth.sum()) > 0.97
    assert ndimage.label(mask)[1] == 2


def test_vessels_belong_to_the_lungs_and_bowel_and_trachea_do_not(chest_seen):
    whole, _, mask = chest_seen
    hu = whole.hu.copy()
    hu[40:55, 52:54, 30:32] = 100
    hu[3:8, 40:50, 60:70] = -950
    hu[60:95, 60:66, 51:57] = -980
    again = lung_mask(coarse(Volume(hu, whole.spacing_mm, whole.origin_mm)))
    assert again[42:53, 52:54, 30:32].all()
    assert not again[3:8, 40:50, 60:70].any() and not again[80:95, 60:66, 51:57].any()
    assert (again == mask).mean() > 0.99


@pytest.mark.parametrize("value", [40, -1000])
def test_a_block_has_no_lungs(value):
    solid = Volume(np.full((40, 50, 50), value, np.float32), (3.0, 3.0, 3.0))
    assert not lung_mask(solid).any()


def test_the_lungs_box_holds_them_with_a_margin_and_ends_with_the_volume(chest_seen):
    _, seen, mask = chest_seen
    tight, wide, widest = (lung_box(seen, mask, mm) for mm in (0, 12, 1000))
    places = centres(seen)[:, mask]
    np.testing.assert_allclose(tight.low_mm, places.min(1) - np.array(seen.spacing_mm) / 2)
    np.testing.assert_allclose(tight.high_mm, places.max(1) + np.array(seen.spacing_mm) / 2)
    assert wide == tight.grown(12) and widest == box_of(seen)


def fake_lungmask(monkeypatch, inferer) -> None:
    module = types.ModuleType("lungmask")
    module.LMInferer = inferer
    monkeypatch.setitem(sys.modules, "lungmask", module)


def test_the_network_gets_the_image_as_it_expects_it(monkeypatch, chest_seen):
    """Keywords as in lungmask 0.2.22; SimpleITK's image, axes and spacing as (x, y, z)."""
    _, seen, mask = chest_seen
    seen = Volume(seen.hu, (3.0, 2.9, 2.8), seen.origin_mm)
    asked = []

    class Inferer:
        def __init__(
            self,
            modelname="R231",
            modelpath=None,
            fillmodel=None,
            fillmodel_path=None,
            force_cpu=False,
            batch_size=20,
            volume_postprocessing=True,
            tqdm_disable=False,
        ):
            asked.append((modelname, tqdm_disable))

        def apply(self, image):
            asked.append((image.GetSpacing(), image.GetSize()))
            return mask.astype(np.uint8) * 2

    fake_lungmask(monkeypatch, Inferer)
    found = lung_mask(seen, "lungmask")
    assert found.dtype == bool and np.array_equal(found, mask)
    assert asked == [("R231", True), ((2.8, 2.9, 3.0), mask.shape[::-1])]


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no route to hub/secret"), RuntimeError("invalid hash value"), TimeoutError()]
)
def test_weights_that_cannot_be_had_are_one_line(failure, monkeypatch, chest_seen):
    def fail(**_):
        raise failure

    fake_lungmask(monkeypatch, fail)
    with pytest.raises(UserError, match=r"--lungs: .*weights.*threshold") as caught:
        lung_mask(chest_seen[1], "lungmask")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_package_that_changes_the_warnings_changes_them_for_itself(monkeypatch, chest_seen):
    class Inferer:
        def __init__(self, **_):
            warnings.filterwarnings("ignore", category=UserWarning)

        def apply(self, image):
            return np.zeros(image.GetSize()[::-1], np.uint8)

    fake_lungmask(monkeypatch, Inferer)
    before = list(warnings.filters)
    assert not lung_mask(chest_seen[1], "lungmask").any()
    assert warnings.filters == before


def test_without_the_package_the_extra_is_named(monkeypatch, chest_seen):
    monkeypatch.setitem(sys.modules, "lungmask", None)
    with pytest.raises(UserError, match=r"pip install 'x2c\[lungmask\]'"):
        lung_mask(chest_seen[1], "lungmask")
