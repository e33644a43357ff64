"""What is said of a CT that is not fit to learn from, and that nothing is said of one that is."""

from __future__ import annotations

import numpy as np
import pytest
from ct_files import chest

from x2c.data.prepare.make import look
from x2c.data.prepare.quality import grid_remarks, hu_remarks, lung_remarks, time_remarks
from x2c.data.preprocess.lungs import find_lungs
from x2c.data.preprocess.steps import coarse
from x2c.data.volume import Volume


@pytest.fixture(scope="module")
def good() -> Volume:
    return chest()


def with_hu(volume: Volume, hu: np.ndarray) -> Volume:
    return Volume(hu.astype(np.float32), volume.spacing_mm, volume.origin_mm)


def of_lungs(volume: Volume) -> list[tuple[str, str]]:
    seen = coarse(volume)
    return lung_remarks(seen, find_lungs(seen, everywhere(seen)), everywhere(seen))


def of_hu(volume: Volume) -> list[tuple[str, str]]:
    return hu_remarks(volume, everywhere(volume))


def everywhere(volume: Volume) -> np.ndarray:
    return np.ones(volume.hu.shape, bool)


def only(remarks: list[tuple[str, str]]) -> tuple[str, str]:
    assert len(remarks) == 1, remarks
    return remarks[0]


def test_nothing_is_odd_about_a_good_chest(good):
    assert grid_remarks(good) == of_hu(coarse(good)) == of_lungs(good) == []
    assert of_hu(good) == []


# The grid


@pytest.mark.parametrize(
    ("shape", "spacing", "severity", "part"),
    [
        ((15, 20, 20), (5, 1, 1), "excluded", "only 15 slices; a chest needs at least 16"),
        ((30, 20, 20), (10.5, 1, 1), "excluded", "slices are 10.5 mm apart; at most 10 mm"),
        ((30, 20, 20), (10, 1, 1), "warning", "slices are 10.0 mm apart"),
        ((30, 20, 20), (5.1, 1, 1), "warning", "slices are 5.1 mm apart"),
        ((30, 20, 20), (2, 2.6, 1), "warning", "unusual pixels of 2.60 × 1.00 mm"),
        ((30, 20, 20), (2, 1, 0.1), "warning", "unusual pixels of 1.00 × 0.10 mm"),
    ],
)
def test_grids_that_are_odd(shape, spacing, severity, part):
    assert only(grid_remarks(Volume(np.zeros(shape, np.float32), spacing))) == (severity, part)


@pytest.mark.parametrize(("slices", "spacing"), [(16, (5, 0.7, 0.7)), (300, (0.5, 0.3, 0.3)), (60, (5, 2.5, 2.5))])
def test_grids_that_are_not(slices, spacing):
    assert grid_remarks(Volume(np.zeros((slices, 4, 4), np.float32), spacing)) == []


def test_a_grid_can_be_odd_in_several_ways():
    assert len(grid_remarks(Volume(np.zeros((4, 4, 4), np.float32), (12, 5, 5)))) == 3


# The numbers


@pytest.mark.parametrize("value", [0, -1024, 40])
def test_one_value_everywhere_is_no_image(value, good):
    assert only(of_hu(with_hu(good, np.full_like(good.hu, value)))) == (
        "excluded",
        "every voxel has the same value",
    )


def test_a_volume_without_air_has_no_hu(good):
    """As scanners store it: 0..4095, and a picture's 0..255."""
    for hu in (good.hu + 1024, (good.hu + 1100) / 8):
        severity, text = only(of_hu(with_hu(good, hu)))
        assert severity == "excluded"
        assert text == f"no air: values from {hu.min():.0f} to {hu.max():.0f} are no HU; rescale them on export"


@pytest.mark.parametrize(("shift", "fill"), [(1024, -3024), (1000, 0), (1024, -2000)])
def test_stored_values_with_another_background_have_no_hu(shift, fill, good):
    y, x = np.indices(good.hu.shape[1:])
    hu = good.hu + shift
    hu[:, (y - 63.5) ** 2 + (x - 63.5) ** 2 > 62**2] = fill
    remarks = look(with_hu(good, hu), "threshold")[1]
    severity, text = only(remarks)
    assert severity == "excluded" and text.startswith("no air: values from ") and "are no HU" in text


@pytest.mark.parametrize(
    ("change", "tissue"),
    [
        (lambda hu: hu * 2 + 1000, 1080),
        (lambda hu: hu - 300, -260),
        (lambda hu: np.where(hu < -500, -1000, hu + 600), 640),
    ],
)
def test_tissue_that_is_none_has_no_hu(change, tissue, good):
    severity, text = only(of_hu(with_hu(good, change(good.hu))))
    assert severity == "excluded" and text.startswith("soft tissue lies at ") and "no HU" in text
    assert int(text.split()[4].rstrip(":")) == pytest.approx(tissue, abs=10)


def test_air_alone_has_no_tissue(good):
    noise = np.random.default_rng(0).normal(-1000, 5, good.hu.shape)
    severity, text = only(of_hu(with_hu(good, noise)))
    assert severity == "excluded" and text.startswith("air alone: values from -10")


@pytest.mark.parametrize("shift", [-100, 150])
def test_fat_and_contrast_are_tissue(shift, good):
    assert of_hu(with_hu(good, np.where(good.hu > -500, good.hu + shift, good.hu))) == []


@pytest.mark.parametrize(("shift", "severity"), [(50, None), (90, "warning"), (150, "excluded"), (-200, "excluded")])
def test_the_air_of_the_room_tells_a_shifted_scale(shift, severity, good):
    remarks = of_lungs(with_hu(good, good.hu + shift))
    assert [found for found, _ in remarks] == ([] if severity is None else [severity])


def test_a_stretched_scale_makes_lungs_that_are_none(good):
    severity, text = only(of_lungs(with_hu(good, np.clip(good.hu * 2, -1024, 3071))))
    assert severity == "excluded" and text.startswith("lung lies at -1024")


# The lungs


@pytest.mark.parametrize("hu", [40, -1000])
def test_a_block_is_no_chest(hu, good):
    assert only(of_lungs(with_hu(good, np.full_like(good.hu, hu)))) == (
        "excluded",
        "no lungs: 0 ml of air inside the body; is it a chest?",
    )


def test_an_abdomen_is_no_chest(good):
    """Gas in the bowel is air inside the body, but not half a litre of it."""
    hu = np.where((good.hu > -900) & (good.hu < -400), 40, good.hu)
    hu[20:32, 50:70, 60:80] = -1000
    severity, text = only(of_lungs(with_hu(good, hu)))
    assert severity == "excluded" and text.startswith("no lungs: ") and text.endswith("is it a chest?")
    assert int(text.split()[2]) == pytest.approx(150, rel=0.1), "12 × 20 × 20 voxels of 31 mm³"


def test_lungs_that_the_field_of_view_cuts(good):
    """A spine's or a heart's field: the lungs reach the slices' sides."""
    hu = good.hu[:, 30:94, 30:98]
    severity, text = only(of_lungs(with_hu(good, hu)))
    assert (severity, text) == ("excluded", "the field of view cuts the lungs off at the sides: 562 cm²")


@pytest.mark.parametrize(
    ("kept", "severity", "end"),
    [
        (slice(9, None), "warning", "below"),
        (slice(None, 50), "warning", "above"),
        (slice(22, None), "excluded", "below"),
        (slice(None, 36), "excluded", "above"),
    ],
)
def test_lungs_that_end_with_the_volume(kept, severity, end, good):
    """A recess or an apex is a warning, half of the lungs a reason to leave the CT out."""
    found, text = only(of_lungs(with_hu(good, good.hu[kept])))
    assert found == severity and f"cut off {end}: " in text
    area = int(text.split(": ")[1].split()[0])
    plane = good.hu[kept][-1 if end == "above" else 0]
    air = (plane < -400).sum() - (good.hu[0] < -400).sum()  # the first slice has air around the body alone
    assert area == pytest.approx(air * 6.25 / 100, rel=0.1)


def test_a_chest_cut_at_both_ends_is_told_both(good):
    assert [text.split(":")[0] for _, text in of_lungs(with_hu(good, good.hu[20:40]))] == [
        "the lungs are cut off above",
        "the lungs are cut off below",
    ]


@pytest.mark.parametrize(("scale", "severity"), [(0.7, "warning"), (0.45, "excluded")])
def test_small_lungs(scale, severity, good):
    """3.6 l, shrunk: 1.2 l are a remark, .3 l are none at all."""
    small = Volume(good.hu, tuple(scale * mm for mm in good.spacing_mm))
    found, text = only(of_lungs(small))
    assert found == severity
    ml = int(next(word for word in text.split() if word.isdigit()))
    assert ml == pytest.approx(3580 * scale**3, rel=0.06)
    assert text.startswith("only " if severity == "warning" else "no lungs: ")


def test_more_air_than_lungs_hold(good):
    large = Volume(good.hu, tuple(1.36 * mm for mm in good.spacing_mm))
    assert "9.0 l of air inside the body are much" in only(of_lungs(large))[1]
    severity, text = only(of_lungs(Volume(good.hu, tuple(1.5 * mm for mm in good.spacing_mm))))
    assert severity == "excluded" and text == "12 l of air inside the body are more than lungs hold"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_lung_that_is_not_there_is_told_with_its_side(side, good):
    hu = good.hu.copy()
    half = hu[..., 64:] if side == "left" else hu[..., :64]
    inner = half[:, :, 4:-8] if side == "left" else half[:, :, 8:-4]
    inner[:, 20:110][inner[:, 20:110] < -400] = 30
    severity, text = only(of_lungs(with_hu(good, hu)))
    assert severity == "warning" and text.startswith(f"hardly any aerated lung on the patient's {side} (0 of ")


def test_lungs_that_the_field_of_view_cuts_at_one_side(good):
    """The outer 4 cm of the right lung are outside: in the slices where it is widest it opens to the side."""
    texts = [text for _, text in of_lungs(with_hu(good, good.hu[..., 22:]))]
    assert any(text.startswith("the field of view cuts the lungs off at the sides: ") for text in texts)


# The dates


@pytest.mark.parametrize("hours", [None, 0, 5.5, 24])
def test_pairs_of_one_day(hours):
    assert time_remarks(hours) == []


def test_pairs_of_several_days():
    assert only(time_remarks(24.6)) == ("warning", "CT and X-ray were taken 25 h apart; the paper has at most 24")
    assert "72 h apart" in only(time_remarks(72.0))[1]
