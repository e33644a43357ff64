"""Splits that a source prescribes are kept, and validation patients come from its training set only."""

from __future__ import annotations

import pandas as pd
import pytest

from x2c.core.errors import UserError
from x2c.data.prepare.splits import PAPER, assign, check


def cohort(told: list[str], rows: int = 2) -> pd.DataFrame:
    """Patients with these splits, every third with an embolism; `rows` a patient."""
    table = pd.DataFrame({"told": told, "label": [int(number % 3 == 0) for number in range(len(told))]})
    table["patient"] = [f"p{number}" for number in range(len(told))]
    table["study"] = table["patient"]
    table = table.loc[table.index.repeat(rows)].reset_index(drop=True)
    return table.assign(half=table.groupby("patient").cumcount() % 2)


def assigned(table: pd.DataFrame, proportions: tuple[int, int, int] = PAPER, seed: int = 0) -> pd.DataFrame:
    return table.join(assign(table["patient"], table["label"], proportions, seed, table["told"]))


def test_validation_patients_are_drawn_from_the_prescribed_training_set():
    """X2CT: 916 train and 102 test; the paper's 803 : 50 asks for 54 of 916."""
    table = assigned(cohort(["train"] * 916 + ["test"] * 102))
    check(table)
    assert (table.loc[table["told"] == "test", "split"] == "test").all()
    assert set(table.loc[table["told"] == "train", "split"]) == {"train", "val"}
    val = table[table["split"] == "val"].groupby("patient")["label"].first()
    assert len(val) == round(916 * 50 / 853) == 54 and val.sum() == 18, "with the same share of embolism"
    other = assigned(cohort(["train"] * 916 + ["test"] * 102), seed=1)
    assert (other["split"] != table["split"]).any()
    pd.testing.assert_frame_equal(table, assigned(cohort(["train"] * 916 + ["test"] * 102)))


@pytest.mark.parametrize(("proportions", "count"), [((1, 0, 0), 1), ((0, 1, 0), 4), ((0, 0, 1), 1), ((1, 1, 8), 2)])
def test_at_least_one_validates_and_one_is_trained_on(proportions, count):
    table = assigned(cohort(["train"] * 5 + ["test"] * 2), proportions)
    counts = table.groupby("split")["patient"].nunique()
    assert (counts["val"], counts["train"], counts["test"]) == (count, 5 - count, 2)
    alone = assigned(cohort(["train"] + ["test"] * 2), proportions)
    assert alone["split"].tolist() == alone["told"].tolist()


def test_a_prescribed_validation_set_is_kept():
    table = assigned(cohort(["train", "val", "train", "test", "val", "test"]))
    assert table["split"].tolist() == table["told"].tolist()


def test_where_all_are_train_or_nothing_is_prescribed_all_are_split():
    for told in ("train", ""):
        table = assigned(cohort([told] * 20), (10, 5, 5))
        free = assign(table["patient"], table["label"], (10, 5, 5), 0)
        assert table["split"].tolist() == free["split"].tolist() and set(table["split"]) == {"train", "val", "test"}
    assert set(assigned(cohort(["test"] * 20))["split"]) == {"test"}


def test_an_examination_that_nobody_listed_goes_with_its_patient():
    table = cohort(["train", "test", "test"], rows=4)
    table.loc[0, "told"] = ""
    assert assigned(table)["split"].tolist() == ["train"] * 4 + ["test"] * 8


def test_contradictions_and_gaps_are_refused_with_counts():
    table = cohort(["train", "test", "test", "train"])
    table.loc[[0, 2], "told"] = ["test", "train"]
    with pytest.raises(UserError, match="expected one prescribed split for each patient; 2 of 4 patients have more"):
        assigned(table)
    with pytest.raises(UserError, match=r"for all patients or for none; 1 of 3 patients have none"):
        assigned(cohort(["train", "", "test"]))
