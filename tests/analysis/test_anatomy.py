"""What is measured in volumes built by hand, where the answer is known exactly, and in phantoms, where it is known nearly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.metrics.anatomy import heart_width_mm, lung_asymmetry, lung_region, lung_volume_ml, vessel_contrast_hu

SPACING = (4.0, 2.0, 1.5)
SHAPE = (6, 20, 40)
AIR_BELOW = -500.0
LUNG, SOFT, CONTRAST = -850.0, 40.0, 350.0


def box(z: slice, y: slice, x: slice, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """A structure that takes all of some voxels, [1, D, H, W]."""
    share = torch.zeros(1, *shape)
    share[:, z, y, x] = 1
    return share


def chest() -> tuple[Tensor, Tensor, Tensor]:
    """HU, heart and lungs: columns 4 to 35 are lung but for a heart from 12 to 27, and soft tissue is around them."""
    heart = box(slice(1, 5), slice(6, 14), slice(12, 28))
    lung = box(slice(None), slice(2, 18), slice(4, 36)) * (1 - heart)
    return SOFT + lung * (LUNG - SOFT), heart, lung


def test_the_heart_is_as_wide_as_what_lies_between_the_lungs() -> None:
    hu, heart, _ = chest()
    assert heart_width_mm(hu, heart, SPACING, AIR_BELOW).tolist() == [16 * 1.5]
    # The made volume is measured and not the true one's structure: a heart that is wider by three voxels on a side.
    wider = torch.where(box(slice(1, 5), slice(6, 14), slice(9, 28)) > 0, SOFT, hu)
    assert heart_width_mm(wider, heart, SPACING, AIR_BELOW).tolist() == [19 * 1.5]


def test_a_heart_with_no_lung_beside_it_reaches_the_volumes_end() -> None:
    hu, heart, _ = chest()
    no_right, no_lung = hu.clone(), torch.full_like(hu, SOFT)
    no_right[..., :12] = SOFT
    widths = [heart_width_mm(volume, heart, SPACING, AIR_BELOW).item() for volume in (no_right, no_lung)]
    assert widths == [28 * 1.5, 40 * 1.5]


def test_only_the_widest_fifth_of_the_hearts_rows_is_measured() -> None:
    # Ten rows of the heart, the two widest of 7 and 6 voxels, with 20 and 30 voxels between the lungs.
    heart = box(slice(2, 3), slice(5, 15), slice(18, 22))
    heart += box(slice(2, 3), slice(9, 10), slice(15, 18)) + box(slice(2, 3), slice(10, 11), slice(16, 18))
    hu = torch.full((1, *SHAPE), LUNG)
    hu[:, 2, 5:15, 18:22] = SOFT
    hu[:, 2, 9, 10:30] = hu[:, 2, 10, 5:35] = SOFT
    assert heart_width_mm(hu, heart, SPACING, AIR_BELOW).tolist() == [25 * 1.5]


def test_lung_behind_the_other_lung_and_air_in_the_middle_do_not_bound_the_heart() -> None:
    hu, heart, _ = chest()
    hu[..., 38:] = LUNG
    middle = hu.clone()
    # A bubble at the very middle: rows that are looked at from there outwards do not see it.
    middle[..., 20] = LUNG
    for volume in (hu, middle):
        assert heart_width_mm(volume, heart, SPACING, AIR_BELOW).tolist() == [16 * 1.5]


def test_an_artery_stands_out_from_its_ring() -> None:
    artery = box(slice(2, 4), slice(9, 11), slice(18, 22))
    ring = box(slice(0, 6), slice(4, 16), slice(12, 28))
    hu = LUNG + ring * (SOFT - LUNG)
    hu = torch.where(artery > 0, CONTRAST, hu)
    # 10 mm are 2, 5 and 6 voxels: the ring as it was painted, and nothing darker beyond it.
    assert vessel_contrast_hu(hu, artery, SPACING).item() == pytest.approx(CONTRAST - SOFT, abs=1e-9)
    beyond = torch.where(ring > 0, hu, 1000.0)
    assert vessel_contrast_hu(beyond, artery, SPACING).item() == pytest.approx(CONTRAST - SOFT, abs=1e-9)


def test_voxels_that_are_partly_artery_are_neither_it_nor_its_surroundings() -> None:
    artery = box(slice(2, 4), slice(9, 11), slice(18, 22))
    rim = box(slice(2, 4), slice(8, 12), slice(17, 23)) * (1 - artery)
    hu = torch.where(artery > 0, CONTRAST, SOFT) + rim * 9999
    assert vessel_contrast_hu(hu, artery + 0.3 * rim, SPACING).item() == pytest.approx(CONTRAST - SOFT, abs=1e-9)
    assert vessel_contrast_hu(hu, artery + 0.6 * rim, SPACING).item() > CONTRAST


def test_lung_volume_is_that_of_its_voxels() -> None:
    hu, _, lung = chest()
    expected_ml = (6 * 16 * 32 - 4 * 8 * 16) * (4 * 2 * 1.5) / 1000
    region = lung_region(hu, lung, SPACING, AIR_BELOW)
    volume = lung_volume_ml(hu, region, SPACING, AIR_BELOW)
    assert volume.dtype == torch.float64
    assert volume.tolist() == [pytest.approx(expected_ml, rel=1e-12)]
    # An effusion in the made volume is lung that it lacks.
    drowned = hu.clone()
    drowned[:, :, 12:] = SOFT
    lost_ml = (6 * 6 * 32 - 4 * 2 * 16) * (4 * 2 * 1.5) / 1000
    assert lung_volume_ml(drowned, region, SPACING, AIR_BELOW).item() == pytest.approx(expected_ml - lost_ml, rel=1e-12)


def test_lung_asymmetry_is_the_air_that_one_side_lacks() -> None:
    hu, _, lung = chest()
    region = lung_region(hu, lung, SPACING, AIR_BELOW)
    assert lung_asymmetry(hu, lung, region, AIR_BELOW).tolist() == [pytest.approx(0, abs=3)]
    # Fluid over all of one side leaves all air on the other; the same on the other side is the opposite.
    columns = torch.nonzero(lung.flatten(0, -2).any(0)).flatten()
    middle = int(columns[0] + columns[-1]) // 2
    for drowned, expected in ((slice(None, middle + 1), 100), (slice(middle, None), -100)):
        wet = hu.clone()
        wet[..., drowned] = SOFT
        assert lung_asymmetry(wet, lung, region, AIR_BELOW).item() == pytest.approx(expected)
    assert torch.isnan(lung_asymmetry(hu, torch.zeros_like(lung), region, AIR_BELOW)).all()


def test_lung_asymmetry_is_a_share_of_all_air() -> None:
    lung = box(slice(None), slice(None), slice(10, 30), (1, 4, 40))
    air = torch.where(lung > 0, -1000.0, SOFT)
    region = lung_region(air, lung, SPACING, AIR_BELOW)
    # A quarter of one side's ten columns is fluid: 7.5 against 10 of 17.5.
    air[..., :1, 20:30] = SOFT
    assert lung_asymmetry(air, lung, region, AIR_BELOW).item() == pytest.approx(100 * (7.5 - 10) / 17.5)


def test_air_counts_up_to_20_mm_from_the_true_lungs_and_no_further() -> None:
    shape = (1, 1, 60)
    lung = box(slice(None), slice(None), slice(30, 31), shape)
    true, air = torch.where(lung > 0, LUNG, SOFT), torch.full((1, *shape), -1000.0)
    # 20 mm are 13 voxels of 1.5 mm, on either side of the one.
    region = lung_region(true, lung, SPACING, AIR_BELOW)
    assert lung_volume_ml(air, region, SPACING, AIR_BELOW).item() == pytest.approx(27 * 12 / 1000)
    nowhere = lung_region(true, torch.zeros_like(lung), SPACING, AIR_BELOW)
    assert lung_volume_ml(air, nowhere, SPACING, AIR_BELOW).item() == 0


def test_what_is_dark_around_the_true_lungs_is_not_taken_for_lung_nor_its_edge() -> None:
    # Lung in columns 10 to 19, fat in 23 to 25, which the window makes as dark as lung.
    shape = (1, 1, 40)
    lung, fat = (box(slice(None), slice(None), columns, shape) for columns in (slice(10, 20), slice(23, 26)))
    true = torch.where(lung + fat > 0, LUNG, SOFT)
    region = lung_region(true, lung, SPACING, AIR_BELOW)
    assert lung_volume_ml(true, region, SPACING, AIR_BELOW).item() == pytest.approx(10 * 12 / 1000)
    # All dark: 13 columns on either side of the lung, but for the fat's three and one beside each end of it.
    dark = torch.full((1, *shape), LUNG)
    assert lung_volume_ml(dark, region, SPACING, AIR_BELOW).item() == pytest.approx((10 + 10 + 13 - 5) * 12 / 1000)
    # Fat that touches the lung takes no lung away.
    touching = torch.where(box(slice(None), slice(None), slice(20, 23), shape) > 0, LUNG, true)
    close = lung_region(touching, lung, SPACING, AIR_BELOW)
    assert lung_volume_ml(touching, close, SPACING, AIR_BELOW).item() == pytest.approx(10 * 12 / 1000)


def test_volumes_without_the_structure_are_nan_and_spare_the_others() -> None:
    hu, heart, _ = chest()
    nothing = torch.zeros_like(heart)
    for measure in (
        lambda volumes, masks: heart_width_mm(volumes, masks, SPACING, AIR_BELOW),
        lambda volumes, masks: vessel_contrast_hu(volumes, masks, SPACING),
    ):
        empty, full = measure(torch.cat([hu, hu]), torch.cat([nothing, heart]))
        assert torch.isnan(empty) and full == measure(hu, heart).item()
        # Less than half of every voxel is not enough.
        assert torch.isnan(measure(hu, 0.4 * heart)).all()


@pytest.mark.slow
def test_in_phantoms_the_measurements_follow_what_was_drawn() -> None:
    from x2c.data.phantom import make_patient, make_structures
    from x2c.data.phantom.parameters import sample_parameters

    # Without fluid: where it lies against the heart no lung bounds it.
    drawn_of = {f"p{number}": sample_parameters(f"p{number}", 0) for number in range(40)}
    dry = [name for name, p in drawn_of.items() if p.effusion_left_ml == p.effusion_right_ml == 0]
    shape, patients = (16, 64, 64), dry[:8]
    drawn, windowed, whole = [], [], []
    for patient_id in patients:
        patient = make_patient(patient_id, 0, shape, 32, "drr")
        masks = {
            name: torch.from_numpy(np.ascontiguousarray(share))[None]
            for name, share in make_structures(patient_id, 0, shape).items()
        }
        p, hu, spacing = patient.parameters, torch.from_numpy(patient.volume.hu)[None], patient.volume.spacing_mm
        drawn.append((p["lung_right_ml"] + p["lung_left_ml"], p["heart_width_mm"]))
        # As scores are taken, in the window of contrast-enhanced CT, and without one.
        for into, volume, air_below in ((windowed, hu.clamp(-100, 900), -30.0), (whole, hu, AIR_BELOW)):
            region = lung_region(volume, masks["lung"], spacing, air_below)
            volume_ml = lung_volume_ml(volume, region, spacing, air_below)
            width_mm = heart_width_mm(volume, masks["heart"], spacing, air_below)
            into.append((volume_ml.item(), width_mm.item()))
    truth = np.array(drawn)
    for measured, lung_at_least in ((np.array(windowed), 0.9), (np.array(whole), 0.97)):
        lung, heart = (np.corrcoef(truth[:, place], measured[:, place])[0, 1] for place in range(2))
        assert lung > lung_at_least and heart > 0.95
    # Less what vessels take; and in the window, where fat is as dark as lung, no more for it.
    ratio = {name: np.array(rows)[:, 0] / truth[:, 0] for name, rows in (("window", windowed), ("whole", whole))}
    assert (ratio["whole"] < 1).all() and abs(ratio["window"].mean() - 1) < 0.1, ratio
