"""Which pictures pass as a frontal chest: real ones, phantoms, projections of a real CT, and what is none."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from x2c.core.script import PROJECT
from x2c.data.drr import Pose, random_pose, render_drr
from x2c.data.frontal import FRONTAL, frontal_likeness, xray_remarks
from x2c.data.ingest.images import read_image
from x2c.data.phantom import make_radiograph, make_subject
from x2c.data.phantom.parameters import radiograph_pose
from x2c.data.readers import read_radiograph
from x2c.data.volume import Array, Volume, window

REAL = PROJECT.parent / "shared/realdata"
with_real_files = pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
PIXELS = 128
PHANTOMS = [f"p{number}" for number in range(6)]


@cache
def phantom(patient_id: str) -> Array:
    return make_radiograph(make_subject(patient_id, 0), radiograph_pose(patient_id, 0), 96)


@cache
def real_ct() -> Volume:
    scan = read_image(REAL / "ct/thorax_contrast.nii.gz").volume
    hu = np.maximum(scan.hu, -1024).reshape(133, 128, 4, 128, 4).mean((2, 4))
    z, y, x, _ = scan.affine @ [0, 1.5, 1.5, 1]
    return Volume(hu, (2.5, 2.8125, 2.8125), (z, y, x), scan.direction)


@cache
def real_chests() -> list[Array]:
    """Two X-rays, and a real CT as it is and in two random poses."""
    poses = [Pose(), *(random_pose(np.random.default_rng(seed)) for seed in range(2))]
    xrays = [read_radiograph(path) for path in sorted((REAL / "cxr").glob("*.png"))]
    return xrays + [render_drr(real_ct(), PIXELS, pose) for pose in poses]


def said_of(xray: Array) -> list[str]:
    """The remarks, by what they say."""
    known = {
        "inverted": "inverted",
        "on its side": "side",
        "upside": "upside down",
        "frontal": "other",
        "blank": "blank",
    }
    return [
        f"{severity}: {next(short for part, short in known.items() if part in text)}"
        for severity, text in xray_remarks(xray)
    ]


def check_chest(chest: Array) -> None:
    """A frontal chest passes, and is recognised for what was done to it."""
    assert said_of(chest) == []
    assert said_of(1 - chest) == ["excluded: inverted"]
    assert said_of(np.rot90(chest, 2)) == ["warning: upside down"]
    for turns in (1, 3):
        assert said_of(np.rot90(chest, turns)) == ["warning: side"]
    assert said_of(chest.T)
    assert said_of(0.5 + chest / 20) == ["warning: blank"]


@pytest.mark.parametrize("patient_id", PHANTOMS)
def test_phantoms_pass_only_as_they_are(patient_id):
    check_chest(phantom(patient_id))


@with_real_files
def test_real_chests_pass_with_a_margin_and_only_as_they_are():
    for chest in real_chests():
        check_chest(chest)
        assert frontal_likeness(chest) > FRONTAL + 0.12


def exposures(chest: Array) -> dict[str, Array]:
    cut = len(chest) // 12
    return {
        "soft": chest**0.5,
        "hard": chest**2,
        "narrow window": np.clip((chest - 0.15) / 0.7, 0, 1),
        "close": chest[cut:-cut, cut:-cut],
        "black margins": np.pad(chest, len(chest) // 5),
        "white margin": np.pad(chest, ((0, len(chest) // 4), (0, len(chest) // 4)), constant_values=1),
        "lean": ndimage.rotate(chest, 6, reshape=False, order=1, mode="nearest"),
        "noise": chest + 0.08 * np.random.default_rng(0).standard_normal(chest.shape),
        "large": np.kron(chest, np.ones((3, 3))),
    }


@with_real_files
def test_exposure_crop_margins_and_noise_do_not_matter_on_real_chests():
    for chest in real_chests()[:3]:
        for name, changed in exposures(chest).items():
            assert xray_remarks(changed) == [], name


def test_exposure_crop_margins_and_noise_do_not_matter_on_a_phantom():
    for name, changed in exposures(phantom("p0")).items():
        assert xray_remarks(changed) == [], name


@with_real_files
@pytest.mark.parametrize("degrees", [90, -90, 75, -105])
def test_a_lateral_view_is_remarked_on(degrees):
    lateral = render_drr(real_ct(), PIXELS, Pose(rotation_deg=degrees))
    assert said_of(lateral) == ["warning: other"]
    assert frontal_likeness(lateral) < FRONTAL - 0.1


@with_real_files
def test_slices_and_another_part_of_the_body_are_remarked_on():
    slices = [window(real_ct().hu[number], low, low + 1400)[::-1] for number in (60, 75, 90) for low in (-1350, -1000)]
    abdomen = render_drr(read_image(REAL / "ct/abdomen_thin.nii.gz").volume, PIXELS)
    for picture in (*slices, abdomen):
        assert said_of(picture) == ["warning: other"]


@pytest.mark.parametrize("blur", [0, 2, 8])
def test_noise_is_no_chest(blur):
    for seed in range(4):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((128, 128)), blur)
        assert said_of((noise - noise.min()) / np.ptp(noise)) == ["warning: other"]


def test_a_picture_of_black_and_white_is_left_out():
    (remark,) = xray_remarks((phantom("black and white") > 0.5).astype(np.float32))
    assert remark == ("excluded", "has 2 shades of grey; export it with 8 bits or more")


def test_an_even_picture_has_no_likeness():
    assert frontal_likeness(np.full((80, 80), 0.3)) == pytest.approx(0, abs=1e-6)
    assert said_of(np.full((80, 80), 0.3)) == ["warning: blank"]
