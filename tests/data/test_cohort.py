"""A prepared data set on disk, and the phantom cohort as the smallest scale makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from x2c.core.config import Resolution
from x2c.core.errors import UserError
from x2c.core.registry import DATASETS
from x2c.core.resolve import resolve
from x2c.data.cohort import SPLITS, array_file, open_cohort, write_about
from x2c.data.phantom import make_patient
from x2c.engine.entries import data_set_of

RESOLUTION = Resolution(size="32x32x8", reduction=1)


def prepare(folder: Path, patients: list[str], splits: list[str]) -> Path:
    """A data set whose first volume runs from -1000 to 1000 HU."""
    count = len(patients)
    ramp = np.linspace(-1000, 1000, 8).reshape(2, 2, 2)
    with array_file(folder / "hu.npy", (count, 2, 2, 2), "int16") as hu:
        hu[:] = np.rint(ramp)[None] + np.arange(count)[:, None, None, None]
    with array_file(folder / "radiographs.npy", (count, 2, 2), "uint16") as radiographs:
        radiographs[:] = np.array([[0, 65535], [13107, 32768]])
    pd.DataFrame({"patient": patients, "split": splits, "label": 0}).to_parquet(folder / "manifest.parquet")
    write_about(folder, "toy", "abc", (2.0, 1.0, 1.5))
    return folder


def test_a_prepared_data_set_is_read_back(tmp_path):
    cohort = open_cohort(prepare(tmp_path, ["a", "b", "b", "c"], ["train", "test", "test", "val"]))
    assert (cohort.name, cohort.fingerprint, cohort.spacing_mm) == ("toy", "abc", (2.0, 1.0, 1.5))
    assert [cohort.rows(split).tolist() for split in SPLITS] == [[0], [3], [1]], "a tested patient counts once"
    assert cohort.patients([1, 2]) == ["b", "b"]


def test_arrays_are_mapped_and_not_loaded(tmp_path):
    cohort = open_cohort(prepare(tmp_path, ["a"], ["train"]))
    assert isinstance(cohort.hu, np.memmap) and isinstance(cohort.radiographs, np.memmap)
    assert not cohort.hu.flags.writeable


def test_volumes_are_windowed_and_radiographs_scaled(tmp_path):
    cohort = open_cohort(prepare(tmp_path, ["a", "b"], ["train", "train"]))
    hu = np.rint(np.linspace(-1000, 1000, 8))
    expected = [0.0 if h < -100 else 1.0 if h > 900 else (h + 100) / 1000 for h in hu]
    volumes = cohort.volumes(np.array([0]), -100, 900)
    assert volumes.dtype == np.float32 and volumes.shape == (1, 2, 2, 2)
    np.testing.assert_allclose(volumes.ravel(), expected, atol=1e-6)
    xrays = cohort.xrays(slice(1, 2))
    assert xrays.dtype == np.float32
    np.testing.assert_allclose(xrays, [[[0.0, 1.0], [0.2, 0.5]]], atol=1e-5)


def test_mirrored_pairs_follow_the_others_and_are_trained_on_alone(tmp_path):
    plain = open_cohort(prepare(tmp_path, ["a", "b", "c", "d"], ["train", "train", "test", "val"]))
    cohort = replace(plain, mirrors=True)
    assert (len(plain), len(cohort)) == (4, 6)
    assert (plain.training_rows.tolist(), cohort.training_rows.tolist()) == ([0, 1], [0, 1, 4, 5])
    assert cohort.rows("train").tolist() == [0, 1]
    assert cohort.patients([4, 5]) == ["a", "b"]
    volumes, xrays = cohort.volumes(slice(0, 6), -1000, 1000), cohort.xrays(np.arange(6))
    for row, twin in ((0, 4), (1, 5)):
        np.testing.assert_array_equal(volumes[twin], volumes[row][..., ::-1])
        np.testing.assert_array_equal(xrays[twin], xrays[row][..., ::-1])
        depths = np.array([1, 0])
        np.testing.assert_array_equal(cohort.slices_hu(twin, depths), cohort.slices_hu(row, depths)[..., ::-1])
    np.testing.assert_array_equal(volumes[:4], plain.volumes(slice(0, 4), -1000, 1000))


def test_a_patient_in_two_splits_is_refused(tmp_path):
    folder = prepare(tmp_path, ["a", "b", "a", "b", "c"], ["train", "test", "test", "train", "val"])
    with pytest.raises(UserError, match=r"one split; 2 stand in several; prepare the data again"):
        open_cohort(folder)


def test_an_array_that_was_not_finished_leaves_no_file(tmp_path):
    def interrupted() -> None:
        with array_file(tmp_path / "hu.npy", (2,), "int16") as array:
            array[0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_phantom_cohort_has_its_patients_and_their_truth(smoke_cache):
    config = resolve("full", "smoke")
    asked = config.dataset.options
    cohort = data_set_of(config.dataset).open(smoke_cache, RESOLUTION, 1)
    assert [len(cohort.rows(split)) for split in SPLITS] == [asked.train, asked.val, asked.test]
    assert cohort.manifest["patient"].is_unique
    assert cohort.hu.shape == (len(cohort.manifest), *RESOLUTION.shape)
    for row in (0, len(cohort.manifest) - 1):
        told = cohort.manifest.iloc[row]
        patient = make_patient(told["patient"], asked.cohort, RESOLUTION.shape, asked.radiograph_size)
        assert told["label"] == patient.label
        assert {name: told[name] for name in patient.parameters} == patient.parameters
        assert np.abs(cohort.hu[row] - patient.volume.hu).max() <= 0.501
        np.testing.assert_allclose(cohort.xrays(np.array([row]))[0], patient.radiograph, atol=1 / 65535)
        assert cohort.spacing_mm == patient.volume.spacing_mm


def fingerprint(resolution: Resolution = RESOLUTION, **changes: int) -> str:
    entry = DATASETS.get("phantom")
    return entry(entry.Options(**{"train": 3, "val": 1, "test": 2, "radiograph_size": 16, **changes})).fingerprint(
        resolution
    )


def test_the_fingerprint_tells_data_sets_apart_before_they_are_made(smoke_cache):
    different = [
        fingerprint(),
        fingerprint(resolution=Resolution(size="32x32x16", reduction=1)),
        *(fingerprint(**{name: 7}) for name in ("train", "val", "test", "cohort", "radiograph_size")),
    ]
    assert len(set(different)) == len(different)
    assert fingerprint() == different[0]
    config = resolve("full", "smoke")
    cohort = data_set_of(config.dataset).open(smoke_cache, RESOLUTION, 1)
    assert fingerprint(**config.dataset.options.model_dump()) == cohort.fingerprint
