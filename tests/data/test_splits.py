"""Splits and folds: by patient, with like shares of embolism, in the paper's proportions."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from x2c.core.errors import UserError
from x2c.data.prepare.splits import FOLDS, PAPER, assign, check


def rows(patients: list[int], labels: list[int]) -> pd.DataFrame:
    """Two rows, one a half, for every examination."""
    table = pd.DataFrame({"patient": [f"p{patient}" for patient in patients], "label": labels})
    table["study"] = [f"s{number}" for number in range(len(table))]
    table = table.loc[table.index.repeat(2)].reset_index(drop=True)
    return table.assign(half=[0, 1] * len(patients))


def assigned(table: pd.DataFrame, proportions: tuple[int, int, int] = PAPER, seed: int = 0) -> pd.DataFrame:
    return table.join(assign(table["patient"], table["label"], proportions, seed))


def test_the_papers_cohort_is_split_as_the_paper_splits_it():
    table = assigned(rows(list(range(898)), [int(number % 3 == 0) for number in range(898)]))
    per_split = table.groupby("split")["patient"].nunique()
    assert per_split[["train", "val", "test"]].tolist() == list(PAPER)
    shares = table.groupby("split")["label"].mean()
    assert (shares - 1 / 3).abs().max() < 0.02
    folds = table.groupby("fold")
    assert len(folds) == FOLDS and folds["patient"].nunique().between(148, 151).all()
    assert (folds["label"].mean() - 1 / 3).abs().max() < 0.02


@settings(max_examples=40, deadline=None)
@example([(0, 0), (1, 2), (2, 0), (3, 1), (4, 1), (5, 2)], 0)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 1, 2])), min_size=1, max_size=60), st.integers(0, 3))
def test_no_patient_is_on_two_sides(pairs, seed):
    table = assigned(rows(*map(list, zip(*pairs, strict=True))), seed=seed)
    check(table)
    assert set(table["fold"]) <= set(range(FOLDS))
    patients = table["patient"].nunique()
    if patients >= 4:
        counts = table.groupby("split")["patient"].nunique()
        assert counts["test"] >= 2 and counts["val"] >= 1 and counts["train"] >= 1


def test_splits_depend_on_the_seed_and_on_nothing_else():
    table = rows(list(range(40)), [0, 1] * 20)
    once, again, other = assigned(table), assigned(table), assigned(table, seed=1)
    pd.testing.assert_frame_equal(once, again)
    assert (once["split"] != other["split"]).any() and (once["fold"] != other["fold"]).any()


def test_a_patient_with_one_embolism_counts_as_one_who_has_it():
    """Twenty patients, half of whom had an embolism in one of two examinations: the test set holds both kinds."""
    table = assigned(rows([n for n in range(20) for _ in range(2)], [0, 0, 0, 1] * 10), (10, 5, 5))
    per_patient = table[table["split"] == "test"].groupby("patient")["label"].max()
    assert sorted(per_patient) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_what_crosses_the_splits_or_lost_a_half_is_refused():
    table = assigned(rows(list(range(12)), [0, 1] * 6))
    check(table)
    for column, value in (("split", "elsewhere"), ("fold", 7)):
        spoilt = table.copy()
        spoilt.loc[0, column] = value
        with pytest.raises(UserError, match=f"1 patients stand in more than one {column}"):
            check(spoilt)
    with pytest.raises(UserError, match="lacks a half"):
        check(table.drop(index=3))
