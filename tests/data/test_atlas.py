"""Virtual patients from the real CT. The template takes about half a minute and is made once for all test processes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from x2c.core.config import Resolution
from x2c.core.errors import UserError
from x2c.core.registry import DATASETS, SOURCES
from x2c.data.atlas import (
    FIELD_MM,
    export,
    make_patient,
    make_radiograph,
    radiograph_field_mm,
    sampled,
    scanned,
    subject,
)
from x2c.data.atlas.disease import Clots
from x2c.data.atlas.parameters import (
    CT_BREATH_MM,
    Parameters,
    ct_pose,
    radiograph_pose,
    sample_parameters,
)
from x2c.data.atlas.source import find_source
from x2c.data.atlas.subject import JACOBIAN_MIN, Subject, place, random_field
from x2c.data.atlas.template import Template, open_template, prepare_template
from x2c.data.atlas.tissues import BLOOD_HU, LEVELS, LOW_HU, STEP_HU, Tissue, encode, palette
from x2c.data.embolism import PREVALENCE
from x2c.data.ingest.images import read_image
from x2c.data.preprocess.steps import upright
from x2c.data.readers import read_radiograph
from x2c.data.volume import Array

SHAPE = (16, 32, 32)


def _missing() -> str:
    try:
        find_source()
    except UserError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "the CT is there")


@pytest.fixture(scope="session")
def folder(smoke_cache: Path) -> Path:
    return prepare_template(smoke_cache)


@pytest.fixture(scope="session")
def template(folder: Path) -> Template:
    return open_template(folder)


@pytest.fixture(scope="session")
def patient(folder: Path):
    """Makes small patients, each once."""
    return cache(lambda patient_id: make_patient(folder, patient_id, 0, SHAPE, 64))


@pytest.fixture(scope="session")
def person(template: Template):
    """Draws patients without imaging them, each once."""
    return cache(lambda patient_id: Subject(template, patient_id, 0))


@cache
def drawn(count: int = 400) -> dict[str, Parameters]:
    return {f"p{number}": sample_parameters(f"p{number}", 0) for number in range(count)}


def first(wanted, count: int = 1) -> list[str]:
    """Patients that fulfil something."""
    return [patient_id for patient_id, p in drawn().items() if wanted(p)][:count]


def healthy(p: Parameters) -> bool:
    return not p.disease.embolism and p.disease.effusion_left_ml == p.disease.effusion_right_ml == 0


def dry(p: Parameters) -> Parameters:
    return replace(p, disease=replace(p.disease, effusion_left_ml=0.0, effusion_right_ml=0.0))


def tissue_hu(person: Subject, imaged: subject.Imaged, *kinds: Tissue) -> Array:
    """The HU of a patient's voxels of some tissues, in the template."""
    return person.hu(imaged)[np.isin(np.asarray(person.template.codes) // LEVELS, kinds)]


def test_same_arguments_same_patient(folder, patient):
    once, again = patient("p0"), make_patient(folder, "p0", 0, SHAPE, 64)
    np.testing.assert_array_equal(once.volume.hu, again.volume.hu)
    np.testing.assert_array_equal(once.radiograph, again.radiograph)
    assert (once.label, once.parameters) == (again.label, again.parameters)


def test_shapes_types_and_ranges(patient):
    p = patient("p0")
    assert p.volume.hu.shape == SHAPE and p.volume.hu.dtype == np.float32
    assert p.volume.spacing_mm == pytest.approx([f / n for f, n in zip(FIELD_MM, SHAPE, strict=True)])
    assert -1024 <= p.volume.hu.min() < -900 and 250 < p.volume.hu.max() <= 3071
    assert p.radiograph.shape == (64, 64) and p.radiograph.dtype == np.float32
    assert p.radiograph.min() == 0 and p.radiograph.max() == 1
    assert json.loads(json.dumps(p.parameters)) == p.parameters
    assert p.parameters["lung_right_ml"] > 500 and 90 < p.parameters["heart_width_mm"] < 190
    # Nothing of the file's padding, and air where the body ends.
    assert np.median(p.volume.hu[:, 0]) == pytest.approx(-1000, abs=10)


def test_patients_and_cohorts_differ(patient):
    volumes = [np.clip((patient(f"p{i}").volume.hu + 100) / 1000, 0, 1) for i in range(4)]
    psnr = [-10 * np.log10(np.mean((a - b) ** 2)) for k, a in enumerate(volumes) for b in volumes[:k]]
    assert np.mean(psnr) < 22.5 and np.max(psnr) < 26
    assert sample_parameters("p0", 1) != sample_parameters("p0", 0)


def test_another_shape_is_the_same_anatomy(folder, patient):
    small, large = patient("p1"), make_patient(folder, "p1", 0, (32, 64, 64), 16)
    assert small.parameters == large.parameters and small.label == large.label
    averaged = large.volume.hu.reshape(16, 2, 32, 2, 32, 2).mean((1, 3, 5))
    assert np.corrcoef(averaged.ravel(), small.volume.hu.ravel())[0, 1] > 0.99
    centres = [
        np.array(v.origin_mm) + np.array(v.spacing_mm) * (np.array(v.hu.shape) - 1) / 2
        for v in (small.volume, large.volume)
    ]
    np.testing.assert_allclose(*centres, atol=1e-3)


def test_no_patient_is_folded(person):
    for number in range(8):
        one = person(f"p{number}")
        assert min(one.lying.jacobian_min, one.standing.jacobian_min) >= JACOBIAN_MIN


def test_a_field_that_is_too_strong_is_weakened_until_it_squeezes_nothing(template, monkeypatch):
    p, poses = drawn()["p0"], (ct_pose("p0", 0), radiograph_pose("p0", 0))
    rough = 4 * random_field(template.modes.shape[2:], np.random.default_rng(0))
    weakened = place(template, p, poses, rough)
    assert min(imaged.jacobian_min for imaged in weakened) >= JACOBIAN_MIN
    monkeypatch.setattr(subject, "JACOBIAN_MIN", -np.inf)
    as_drawn = place(template, p, poses, rough)
    assert min(imaged.jacobian_min for imaged in as_drawn) < JACOBIAN_MIN
    assert weakened[0].strength == weakened[1].strength < as_drawn[0].strength == 1
    assert np.abs(weakened[0].placement.forward).max() < np.abs(as_drawn[0].placement.forward).max()


def test_breathing_in_makes_lungs_larger_and_thinner(template):
    p, pose = drawn()["p0"], ct_pose("p0", 0)
    rough = random_field(template.modes.shape[2:], np.random.default_rng(0))
    out, into = place(template, p, tuple(replace(pose, breath_mm=mm) for mm in CT_BREATH_MM), rough)
    assert all(1.05 < large / small < 1.6 for small, large in zip(out.lung_ml, into.lung_ml, strict=True))


def test_lung_volumes_are_those_of_the_pictures(folder, person):
    (patient_id,) = first(healthy)
    volume = sampled(person(patient_id), (64, 64, 64))
    body = volume.hu[:, 12:-12, 12:-12]
    # Airways are not in the labels, small vessels and the pleura's partial volume are not in the threshold.
    aerated_ml = ((body < -500) & (body > -960)).sum() * np.prod(volume.spacing_mm) / 1000
    assert aerated_ml == pytest.approx(sum(person(patient_id).lying.lung_ml), rel=0.25)


def test_densities_are_the_patients_own(person):
    (patient_id,) = first(healthy)
    one, densities = person(patient_id), drawn()[patient_id].densities
    for kind, expected, tolerance in (
        (Tissue.ARTERY, densities.artery, 60),
        (Tissue.AORTA, densities.aorta, 15),
        (Tissue.LIVER, densities.liver, 10),
        (Tissue.SPLEEN, densities.spleen, 15),
        (Tissue.LUNG, densities.lung, 60),
    ):
        assert np.median(tissue_hu(one, one.lying, kind)) == pytest.approx(expected, abs=tolerance)
    for kind in (Tissue.AORTA, Tissue.ARTERY, Tissue.HEART, Tissue.CAVA):
        assert np.percentile(tissue_hu(one, one.standing, kind), 90) < BLOOD_HU + 35


def test_a_palette_of_the_scanned_densities_changes_next_to_nothing():
    hu = np.linspace(-1000, 200, 50)
    own = palette(replace(drawn()["p0"].densities, lung=-885.0, fat=-105.0, muscle=50.0))
    codes = encode(hu, np.full(50, Tissue.OTHER, np.uint8))
    np.testing.assert_allclose(own[codes], hu, atol=STEP_HU)
    assert LOW_HU + STEP_HU * LEVELS > 2000 and len(Tissue) * LEVELS <= 2**16


def test_clots_are_filling_defects_of_those_who_have_them(person):
    for patient_id in first(lambda p: p.disease.embolism, 2) + first(lambda p: not p.disease.embolism):
        one = person(patient_id)
        arteries = np.asarray(one.template.artery_at)
        with_clots = one.hu(one.lying).ravel()[arteries]
        clots = one.clots
        one.clots = Clots(np.zeros_like(clots.share), np.ones_like(clots.flow))
        without = one.hu(one.lying).ravel()[arteries]
        one.clots = clots
        if not drawn()[patient_id].disease.embolism:
            np.testing.assert_array_equal(with_clots, without)
            continue
        assert with_clots.mean() < without.mean() - 3
        core = (clots.share > 0.99) & (without > 250)
        assert core.sum() >= 20
        assert np.percentile(with_clots[core], 5) > 25 and np.percentile(with_clots[core], 95) < 65
        # Around them blood still is.
        assert (with_clots > 250).sum() > 0.5 * (without > 250).sum()


def test_clots_lie_past_the_trunk_and_the_larger_burden_has_more(person, patient):
    sick = first(lambda p: p.disease.embolism, 40)
    ranked = sorted(sick, key=lambda patient_id: drawn()[patient_id].disease.clot_burden)
    few, many = ([person(i).clots.share.sum() for i in group] for group in (ranked[:3], ranked[-3:]))
    assert min(few) > 0 and np.mean(few) < np.mean(many)
    at_root = np.asarray(person(ranked[-1]).template.node_parent)[person(ranked[-1]).template.artery_node] < 0
    assert person(ranked[-1]).clots.share[at_root].max() == 0
    assert patient(sick[0]).label == 1 and patient(sick[0]).parameters["clot_ml"] > 0


def test_the_arterial_tree_is_one_tree_that_narrows(template):
    parent, radius, distance = template.node_parent, template.node_radius_mm, template.node_distance_mm
    assert (parent < 0).sum() == 1
    child = np.flatnonzero(parent >= 0)
    assert (distance[parent[child]] < distance[child]).all()
    widest = [radius[(distance >= near) & (distance < near + 25)].max() for near in (40, 90, 130, 170)]
    assert widest == sorted(widest, reverse=True) and 8 < widest[0] < 16
    x = np.asarray(template.artery_at) % template.codes.shape[2]
    sides = x * template.spacing_mm[2] + template.origin_mm[2]
    assert 0.25 < (sides < -30).sum() / (np.abs(sides) > 30).sum() < 0.75


def test_effusions_take_their_volume_at_the_back_of_those_who_lie(person):
    (patient_id,) = first(lambda p: 400 < p.disease.effusion_left_ml < 700 and p.disease.effusion_right_ml == 0)
    one = person(patient_id)
    wet = sampled(one, (48, 64, 64))
    parameters, one.parameters = one.parameters, dry(one.parameters)
    without = sampled(one, (48, 64, 64))
    one.parameters = parameters
    filled = (wet.hu - without.hu) > 450
    filled_ml = filled.sum() * np.prod(wet.spacing_mm) / 1000
    assert filled_ml == pytest.approx(parameters.disease.effusion_left_ml, rel=0.3)
    z, y, x = (rows.mean() / n for rows, n in zip(np.nonzero(filled), filled.shape, strict=True))
    assert z < 0.5 and y > 0.55 and x > 0.55
    core = wet.hu[filled & (without.hu < -800)]
    assert np.median(core) == pytest.approx(parameters.disease.fluid_hu, abs=12)


def test_an_effusion_whitens_the_base_of_its_side_on_the_radiograph(person):
    (patient_id,) = first(lambda p: p.disease.effusion_left_ml > 600 and p.disease.effusion_right_ml == 0)
    one = person(patient_id)
    wet = make_radiograph(one, 64)
    parameters, one.parameters = one.parameters, dry(one.parameters)
    change = wet - make_radiograph(one, 64)
    one.parameters = parameters
    left, right = change[24:52, 38:58].mean(), change[24:52, 6:26].mean()
    assert left > right + 0.05


def test_without_contrast_no_blood_is_bright(folder):
    made = [make_patient(folder, "p0", 0, SHAPE, 16, contrast=c) for c in (True, False)]
    change = made[1].volume.hu - made[0].volume.hu
    assert change.min() < -100 and change.max() < 30
    assert (made[0].radiograph == made[1].radiograph).all()


def test_prevalence_and_indirect_signs():
    diseases = [p.disease for p in drawn().values()]
    assert np.mean([d.embolism for d in diseases]) == pytest.approx(PREVALENCE, abs=0.07)
    assert all(d.clot_burden == d.rv_dilation == d.oligaemia == 0 for d in diseases if not d.embolism)
    assert all(5 <= d.fluid_hu <= 25 for d in diseases)


def test_the_radiograph_is_the_patients_own_in_another_pose(person):
    """A CT seen from the front resembles its own patient's radiograph more than another's."""
    everyone = [f"p{number}" for number in range(6)]
    frontal, shown = [], []
    for patient_id in everyone:
        one = person(patient_id)
        assert one.lying.pose.rotation_deg != one.standing.pose.rotation_deg
        # Both in cells of 10 mm, around the lungs' middle.
        through = scanned(one, sampled(one, (30, 32, 32)), (30, 32, 32)).hu.mean(1)[::-1]
        frontal.append(through[3:-3, 4:-4])
        cells = 2 * round(radiograph_field_mm(one, one.standing) / 20)
        rows, columns = (slice(cells // 2 - half, cells // 2 + half) for half in (12, 12))
        shown.append(make_radiograph(one, cells)[rows, columns])
    correlation = np.corrcoef([f.ravel() for f in frontal], [s.ravel() for s in shown])[:6, 6:]
    own = np.diag(correlation)
    others = (correlation.sum(1) - own) / 5
    assert own.mean() > others.mean() + 0.03 and (own > others).mean() >= 0.75


def test_a_drr_is_of_the_volume_itself(folder, patient):
    projected = make_patient(folder, "p0", 0, SHAPE, 64, "drr")
    np.testing.assert_array_equal(projected.volume.hu, patient("p0").volume.hu)
    assert not any(name.startswith("xray_") for name in projected.parameters)


def test_the_cohorts_patients_are_those_made_alone(folder, tmp_path):
    entry = DATASETS.get("atlas")
    few = entry(entry.Options(train=1, val=1, test=2, radiograph_size=16))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / folder.name).symlink_to(folder)
    cohort = few.open(tmp_path, Resolution(size="16x16x8", reduction=1), 1)
    assert cohort.manifest["patient"].tolist() == [f"atlas-0-{number:05d}" for number in range(4)]
    known = {"label", "lung_left_ml", "heart_width_mm", "effusion_right_ml", "clot_burden", "deformation_strength"}
    assert known <= set(cohort.manifest.columns)
    # Rounded to whole HU, but the very patients that the function makes.
    made = make_patient(folder, "atlas-0-00001", 0, (8, 16, 16), 16)
    assert np.abs(cohort.hu[1] - made.volume.hu).max() <= 0.501
    np.testing.assert_allclose(cohort.xrays(np.array([1]))[0], made.radiograph, atol=1 / 65535)


def test_virtual_patients_as_files_are_what_a_folder_data_set_takes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "SHAPE", (32, 36, 36))
    monkeypatch.setattr(export, "XRAY_PIXELS", 64)
    (tmp_path / "cache/datasets").mkdir(parents=True)
    (tmp_path / "cache/datasets" / folder.name).symlink_to(folder)
    export.export(tmp_path / "out", 2, tmp_path / "cache")
    listed = SOURCES.get("folder")(tmp_path / "out")
    assert [(pair.patient, pair.problem) for pair in listed] == [("patient_000", ""), ("patient_001", "")]
    for number, pair in enumerate(listed):
        made = make_patient(folder, f"atlas-0-{number:05d}", 0, (32, 36, 36), export.XRAY_PIXELS)
        assert pair.label == made.label
        read = upright(read_image(pair.ct).volume)
        assert np.abs(read.hu - made.volume.hu).max() <= 0.501 and read.spacing_mm == pytest.approx(
            made.volume.spacing_mm
        )
        assert np.abs(read_radiograph(pair.xray) - made.radiograph).max() < 0.003
