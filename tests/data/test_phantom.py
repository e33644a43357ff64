from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from x2c.data.embolism import PREVALENCE
from x2c.data.phantom import FIELD_MM, Patient, make_patient, make_radiograph, make_subject
from x2c.data.phantom.canvas import Grid
from x2c.data.phantom.parameters import ct_pose, radiograph_pose, sample_parameters
from x2c.data.phantom.render import Rendering, render
from x2c.data.volume import window

SHAPE = (16, 64, 64)


@cache
def patient(patient_id: str) -> Patient:
    return make_patient(patient_id, 0, SHAPE, 96)


@cache
def with_embolism(embolism: bool, count: int = 2) -> list[str]:
    found = [f"p{i}" for i in range(60) if sample_parameters(f"p{i}", 0).embolism == embolism]
    return found[:count]


@cache
def fine(patient_id: str) -> Rendering:
    """The mediastinum and hila at 2 mm, noiseless."""
    grid = Grid.centred((70, 90, 130), (140.0, 180.0, 260.0), (-30.0, 0.0, 0.0))
    return render(make_subject(patient_id, 0), ct_pose(patient_id, 0), grid)


def test_same_arguments_same_patient() -> None:
    first, again = patient("a"), make_patient("a", 0, SHAPE, 96)
    assert np.array_equal(first.volume.hu, again.volume.hu)
    assert np.array_equal(first.radiograph, again.radiograph)
    assert (first.label, first.parameters) == (again.label, again.parameters)


def test_shapes_types_and_ranges() -> None:
    p = patient("a")
    assert p.volume.hu.shape == SHAPE and p.volume.hu.dtype == np.float32
    assert p.volume.spacing_mm == pytest.approx([f / n for f, n in zip(FIELD_MM, SHAPE, strict=True)])
    assert -1024 <= p.volume.hu.min() < -900 and 300 < p.volume.hu.max() <= 3071
    assert p.radiograph.shape == (96, 96) and p.radiograph.dtype == np.float32
    assert p.radiograph.min() == 0 and p.radiograph.max() == 1
    assert json.loads(json.dumps(p.parameters)) == p.parameters


def test_patients_differ_and_seeds_do() -> None:
    volumes = [window(patient(i).volume.hu, -100, 900) for i in "abcd"]
    psnr = [-10 * np.log10(np.mean((a - b) ** 2)) for k, a in enumerate(volumes) for b in volumes[:k]]
    assert np.mean(psnr) < 21 and np.max(psnr) < 25
    assert make_patient("a", 1, (8, 32, 32), 32).parameters != make_patient("a", 0, (8, 32, 32), 32).parameters


def test_another_shape_is_the_same_anatomy() -> None:
    small, large = patient("b"), make_patient("b", 0, (32, 128, 128), 32)
    assert small.parameters == large.parameters and small.label == large.label
    averaged = large.volume.hu.reshape(16, 2, 64, 2, 64, 2).mean((1, 3, 5))
    assert np.corrcoef(averaged.ravel(), small.volume.hu.ravel())[0, 1] > 0.99
    inside = (small.volume.hu > -100) & (averaged > -100)
    assert np.corrcoef(averaged[inside], small.volume.hu[inside])[0, 1] > 0.95
    centre = [
        np.array(v.origin_mm) + np.array(v.spacing_mm) * (np.array(v.hu.shape) - 1) / 2
        for v in (small.volume, large.volume)
    ]
    np.testing.assert_allclose(centre[0], centre[1])


def test_arteries_are_opacified() -> None:
    for patient_id in with_embolism(False):
        rendering = fine(patient_id)
        assert rendering.clot.max() == 0
        assert 300 <= np.median(rendering.hu[rendering.artery > 0.99]) <= 450


def test_clots_are_filling_defects() -> None:
    for patient_id in with_embolism(True):
        rendering = fine(patient_id)
        core = rendering.clot > 0.99
        assert core.sum() >= 20
        assert np.percentile(rendering.hu[core], 2) >= 40 and np.percentile(rendering.hu[core], 98) <= 80
        assert (rendering.artery[core] > 0.98).all()


def test_label_says_whether_there_are_clots() -> None:
    for patient_id in with_embolism(True, 6) + with_embolism(False, 6):
        subject = make_subject(patient_id, 0)
        assert (len(subject.circulation.clots) > 0) == subject.parameters.embolism
        assert (subject.parameters.clot_burden > 0) == subject.parameters.embolism
    assert [patient(i).label for i in (with_embolism(True)[0], with_embolism(False)[0])] == [1, 0]


def test_prevalence_and_indirect_signs() -> None:
    drawn = [sample_parameters(f"{i}", 3) for i in range(1500)]
    assert np.mean([p.embolism for p in drawn]) == pytest.approx(PREVALENCE, abs=0.04)
    assert all(p.rv_dilation == 0 and p.oligaemia == 0 for p in drawn if not p.embolism)
    assert np.mean([p.rv_dilation for p in drawn if p.embolism]) > 0.1


def test_lung_fat_and_bone_densities() -> None:
    patient_id = with_embolism(False)[0]
    hu = fine(patient_id).hu
    lung = hu[(hu < -600) & (hu > -960)]
    assert np.median(lung) == pytest.approx(sample_parameters(patient_id, 0).lung_hu, abs=40)
    assert (hu > 500).any() and hu.max() < 1500


def test_effusions_show_and_hold_their_volume() -> None:
    patient_id = next(f"e{i}" for i in range(200) if sample_parameters(f"e{i}", 0).effusion_left_ml > 700)
    subject = make_subject(patient_id, 0)
    dry = make_subject(patient_id, 0)
    object.__setattr__(dry.parameters, "effusion_left_ml", 0.0)
    grid = Grid.centred((80, 84, 84), (320.0, 336.0, 336.0), (-20.0, 0.0, 0.0))
    pose = ct_pose(patient_id, 0)
    wet_hu, dry_hu = (render(s, pose, grid).hu for s in (subject, dry))
    filled_ml = ((wet_hu - dry_hu) > 500).sum() * np.prod(grid.spacing_mm) / 1000
    assert filled_ml == pytest.approx(subject.parameters.effusion_left_ml, rel=0.2)


def test_radiograph_is_another_pose_of_the_same_patient() -> None:
    p = patient("a").parameters
    assert p["rotation_deg"] != p["xray_rotation_deg"] and p["breath"] != p["xray_breath"]
    subject = make_subject("a", 0)
    standing = radiograph_pose("a", 0)
    assert np.array_equal(make_radiograph(subject, standing, 96), patient("a").radiograph)
    others = [make_radiograph(subject, radiograph_pose(i, 0), 64) for i in "bcd"]
    mine = make_radiograph(subject, standing, 64)
    strangers = [make_radiograph(make_subject(i, 0), standing, 64) for i in "bcd"]
    same = np.mean([np.abs(mine - o).mean() for o in others])
    different = np.mean([np.abs(mine - s).mean() for s in strangers])
    assert 0 < same < different


def test_lungs_are_dark_and_the_mediastinum_bright() -> None:
    dark = np.mean(np.stack([patient(i).radiograph for i in ("a", "b", "c", *with_embolism(False))]), axis=0)
    height, width = dark.shape
    upper = slice(int(0.35 * height), int(0.5 * height))
    middle = dark[upper, int(0.46 * width) : int(0.56 * width)].mean()
    for lung in (slice(int(0.26 * width), int(0.36 * width)), slice(int(0.64 * width), int(0.74 * width))):
        assert dark[upper, lung].mean() < middle - 0.25


def test_heart_lies_to_the_left_and_before_the_spine() -> None:
    straight = [f"h{i}" for i in range(60) if sample_parameters(f"h{i}", 0).mediastinal_shift_mm == 0][:3]
    left_mm: list[float] = []
    for patient_id in straight:
        _, rows, columns = np.nonzero((fine(patient_id).hu > 180)[8:40, 10:75, 30:100])
        x_mm, y_mm = (columns + 30 - 64.5) * 2.0, (rows + 10 - 44.5) * 2.0
        left_mm.append(float(x_mm[y_mm < 10].mean()))
        assert abs(x_mm[y_mm > 40].mean()) < 15
    assert np.mean(left_mm) > 2


def test_a_patient_with_a_drr_has_the_same_volume_and_a_picture_that_is_registered_to_it():
    paired, projected = patient("p0"), make_patient("p0", 0, SHAPE, 96, "drr")
    np.testing.assert_array_equal(paired.volume.hu, projected.volume.hu)
    assert not any(name.startswith("xray_") for name in projected.parameters)
    # The picture is as wide as the volume, 336 mm, and its rows run down from the apex.
    depth, _, width = SHAPE
    rows = np.rint(47.5 - (np.arange(depth) - (depth - 1) / 2) * (256 / depth) / (336 / 96)).astype(int)
    columns = np.rint((np.arange(width) + 0.5) * 96 / width - 0.5).astype(int)
    shown, through = projected.radiograph[np.ix_(rows, columns)], projected.volume.hu.mean(1)
    inside = slice(2, -2)
    right_way_up = np.corrcoef(through[inside].ravel(), shown[inside].ravel())[0, 1]
    assert right_way_up > 0.5
    for turned in (shown[::-1], shown[:, ::-1]):
        assert np.corrcoef(through[inside].ravel(), turned[inside].ravel())[0, 1] < right_way_up - 0.02
