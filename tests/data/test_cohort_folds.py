"""Folds of a data set: every patient is tested once, by models that never saw the patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from x2c.core.errors import UserError
from x2c.data.cohort import SPLITS, Cohort
from x2c.data.folds import fold_names, in_fold


def cohort(positive: int, negative: int, rows_each: int = 1) -> Cohort:
    """Patients with and without embolism, some rows of each, in splits of their own."""
    count = positive + negative
    patients = np.repeat([f"p{number:03d}" for number in range(count)], rows_each)
    labels = np.repeat([1] * positive + [0] * negative, rows_each)
    manifest = pd.DataFrame({"patient": patients, "label": labels, "split": "train", "study": range(len(patients))})
    arrays = np.zeros((len(patients), 1, 1, 1), np.int16), np.zeros((len(patients), 1, 1), np.uint16)
    return Cohort("toy", "abc", manifest, *arrays, (1.0, 1.0, 1.0))


def splits(of: Cohort) -> dict[str, str]:
    """The split of each patient. Raises where a patient stands in several."""
    per_patient = of.manifest.groupby("patient")["split"].agg(set)
    assert (per_patient.map(len) == 1).all()
    return {patient: next(iter(found)) for patient, found in per_patient.items()}


def test_folds_are_numbered_from_one() -> None:
    assert fold_names(3) == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize("count", [3, 6])
def test_every_patient_is_tested_once_and_validates_once(count: int) -> None:
    whole = cohort(14, 25)
    found = [splits(in_fold(whole, fold)) for fold in fold_names(count)]
    for patient in whole.manifest["patient"]:
        history = [of[patient] for of in found]
        assert history.count("test") == history.count("val") == 1
        assert history.count("train") == count - 2
        # Who is tested in a fold validates in the one before, the last fold's following on the first's.
        assert history.index("val") == (history.index("test") - 1) % count


@pytest.mark.parametrize("count", [3, 6])
def test_folds_are_alike_in_size_and_share_of_embolism(count: int) -> None:
    for fold in fold_names(count):
        manifest = in_fold(cohort(20, 43), fold).manifest
        tested = manifest[manifest["split"] == "test"]
        assert abs(len(tested) - 63 / count) < 1
        assert abs((tested["label"] == 1).sum() - 20 / count) < 1


def test_the_rows_of_a_patient_stay_together() -> None:
    for fold in fold_names(4):
        folded = in_fold(cohort(8, 12, rows_each=3), fold)
        splits(folded)
        # Five patients, each of whom is tested on one row.
        assert [len(folded.rows(split)) for split in SPLITS] == [30, 5, 5]


def test_neither_the_manifests_order_nor_its_splits_change_a_fold() -> None:
    whole = cohort(10, 15, rows_each=2)
    expected = splits(in_fold(whole, "2/5"))
    for seed in range(3):
        shuffled = whole.manifest.sample(frac=1, random_state=seed).reset_index(drop=True)
        shuffled["split"] = np.random.default_rng(seed).choice(SPLITS, len(shuffled))
        other = Cohort("toy", "abc", shuffled, whole.hu, whole.radiographs, whole.spacing_mm)
        folded = in_fold(other, "2/5")
        assert splits(folded) == expected
        # Only the splits are other ones: rows still belong to their volumes.
        pd.testing.assert_frame_equal(folded.manifest.drop(columns="split"), shuffled.drop(columns="split"))


def test_the_order_of_a_patients_examinations_changes_no_fold() -> None:
    # Every patient was examined twice, and those with an embolism had it in one of the two.
    whole = cohort(10, 15, rows_each=2)
    whole.manifest.loc[(whole.manifest["label"] == 1) & (whole.manifest["study"] % 2 == 1), "label"] = 0
    turned = whole.manifest.iloc[::-1].reset_index(drop=True)
    other = Cohort("toy", "abc", turned, whole.hu, whole.radiographs, whole.spacing_mm)
    assert splits(in_fold(other, "2/5")) == splits(in_fold(whole, "2/5"))


def test_the_folds_of_a_prepared_data_set_are_taken_where_they_are_as_many() -> None:
    whole = cohort(12, 18, rows_each=2)
    plain = [splits(in_fold(whole, fold)) for fold in fold_names(6)]
    own = (whole.manifest["patient"].str[1:].astype(int) + 1) % 6
    prepared = Cohort("toy", "abc", whole.manifest.assign(fold=own), whole.hu, whole.radiographs, whole.spacing_mm)
    for number, fold in enumerate(fold_names(6)):
        split = in_fold(prepared, fold).manifest["split"]
        assert ((split == "test") == (own == number)).all() and ((split == "val") == (own == (number + 1) % 6)).all()
    assert splits(in_fold(prepared, "1/5")) == splits(in_fold(whole, "1/5"))
    # Folds of which one lacks a kind of patient would leave a classifier without a threshold.
    whole.manifest["fold"] = whole.manifest["patient"].str[1:].astype(int) // 5
    assert [splits(in_fold(whole, fold)) for fold in fold_names(6)] == plain


def test_no_fold_leaves_the_cohort_as_it_is() -> None:
    whole = cohort(3, 3)
    assert in_fold(whole, "") is whole


def test_a_fold_changes_nothing_in_the_cohort_it_is_of() -> None:
    whole = cohort(5, 7)
    assert whole.rows("train").tolist() == list(range(12))
    folded = in_fold(whole, "1/3")
    assert set(whole.manifest["split"]) == {"train"}
    assert len(folded.rows("test")) == 4 and len(folded) == 12


@pytest.mark.parametrize(("positive", "negative", "most"), [(4, 20, 4), (20, 3, 3), (0, 20, 0)])
def test_more_folds_than_patients_of_a_kind_are_refused(positive: int, negative: int, most: int) -> None:
    expected = rf"^dataset\.fold: expected at most {most} folds, .*; got 5; ask for fewer, or take a larger data set$"
    with pytest.raises(UserError, match=expected):
        in_fold(cohort(positive, negative, rows_each=2), "1/5")
    if most >= 3:
        assert "test" in splits(in_fold(cohort(positive, negative), f"1/{most}")).values()
