"""Splits of patients into training, validation and test, with equal shares of embolism."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from x2c.core.errors import UserError
from x2c.core.seeding import seed_of
from x2c.data.cohort import SPLITS

TRAIN, VAL, TEST = SPLITS
PAPER = (803, 50, 45)
"""Numbers of patients that the paper trains, validates and tests on."""
FOLDS = 6
"""Number of folds, the paper's, for the classifiers."""
LEAST_TEST, LEAST_VAL = 2, 1
FEWEST = LEAST_TEST + LEAST_VAL + 1
"""Fewest patients for splits; of fewer, all are in train."""


def assign(
    patients: pd.Series,
    labels: pd.Series,
    proportions: tuple[int, int, int],
    seed: int,
    prescribed: pd.Series | None = None,
) -> pd.DataFrame:
    """For each row (a volume, of a patient, with a label) its `split` and its `fold` (0 to 5).

    A patient is in one split and in one fold. A patient with an embolism in any volume counts as one who has one. Which
    patients go where depends on their order and on the seed. Whatever the proportions, the test set has at least two
    patients and the validation set one, as soon as there are four: no training does without.

    Splits that the source has `prescribed` (train, val, test, or "" for each row) are kept: X2CT's lists, and CT-RATE's
    folders, of which valid counts as test, since papers report on it. Where none is prescribed val, validation patients
    are drawn from those of train, as many as `proportions` ask for relative to train, and never from test. Where all are
    prescribed train, nothing is kept apart, and they are split as if nothing were prescribed. Raises UserError where a
    patient is prescribed to two splits, and where some patients are prescribed and others are not.
    """
    label_of = labels.groupby(patients, sort=False).max()
    rng = np.random.default_rng(seed_of("splits", seed))
    kept = _prescribed(patients, prescribed) if prescribed is not None else None
    if kept is None or set(kept) == {TRAIN}:
        splits = _splits(label_of.to_numpy(), proportions, rng)
    else:
        splits = _with_val(label_of.to_numpy(), kept.loc[label_of.index].to_numpy(), proportions, rng)
    split_of = pd.Series(splits, index=label_of.index)
    return pd.DataFrame({"split": split_of.loc[patients].to_numpy(), "fold": _folds(patients, labels, seed)})


def check(manifest: pd.DataFrame) -> None:
    """Raise UserError if a patient is in two splits or folds, or if an examination has lost a half."""
    for column in ("split", "fold"):
        across = int((manifest.groupby("patient")[column].nunique() > 1).sum())
        if across:
            raise UserError(
                f"manifest.parquet: {across} patients stand in more than one {column}; prepare the data again"
            )
    halves = manifest.groupby("study")["half"].apply(sorted)
    if not all(list(pair) == [0, 1] for pair in halves):
        raise UserError("manifest.parquet: an examination lacks a half; prepare the data again")


def _prescribed(patients: pd.Series, prescribed: pd.Series) -> pd.Series | None:
    """Return the prescribed split of each patient; None if nobody has one."""
    told = prescribed != ""
    if not told.any():
        return None
    by_patient = prescribed[told].groupby(patients[told], sort=False)
    if across := int((by_patient.nunique() > 1).sum()):
        raise UserError(
            f"--root: expected one prescribed split for each patient; {across} of {patients.nunique()} patients have more; "
            "leave out their examinations in all but one"
        )
    if missing := patients.nunique() - by_patient.ngroups:
        raise UserError(
            f"--root: expected prescribed splits for all patients or for none; {missing} of {patients.nunique()} patients "
            "have none; prescribe theirs, or prepare them apart"
        )
    return by_patient.first()


def _with_val(
    labels: NDArray[np.int64], kept: NDArray[np.object_], proportions: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.object_]:
    """Return prescribed splits, with a validation set drawn from train if there is none."""
    splits = kept.astype(object)
    train = int((splits == TRAIN).sum())
    if VAL not in splits and train > 1:
        share = proportions[1] / max(proportions[0] + proportions[1], 1)
        _draw(splits, labels, VAL, min(max(round(train * share), LEAST_VAL), train - 1), rng)
    return splits


def _splits(
    labels: NDArray[np.int64], proportions: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.object_]:
    count, whole = len(labels), sum(proportions)
    test, val = (
        max(round(count * share / whole), least)
        for share, least in ((proportions[2], LEAST_TEST), (proportions[1], LEAST_VAL))
    )
    if count < FEWEST:
        test = val = 0
    splits = np.full(count, TRAIN, dtype=object)
    for name, wanted in ((TEST, test), (VAL, val)):
        _draw(splits, labels, name, wanted, rng)
    return splits


def _draw(
    splits: NDArray[np.object_], labels: NDArray[np.int64], name: str, wanted: int, rng: np.random.Generator
) -> None:
    """Move `wanted` patients from train to split `name`, with shares of labels as in train."""
    free = np.flatnonzero(splits == TRAIN)
    for label, quota in _quotas(labels[free], wanted).items():
        splits[rng.permutation(free[labels[free] == label])[:quota]] = name


def _quotas(labels: NDArray[np.int64], wanted: int) -> dict[int, int]:
    """Return the number of patients of each label that add up to `wanted`, by largest remainders."""
    kinds, counts = np.unique(labels, return_counts=True)
    exact = counts * wanted / max(len(labels), 1)
    quotas = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - quotas), kind="stable")[: wanted - quotas.sum()]:
        quotas[index] += 1
    return dict(zip(kinds.tolist(), quotas.tolist(), strict=True))


def _folds(patients: pd.Series, labels: pd.Series, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    numbers: NDArray[np.int64] = pd.factorize(patients)[0]
    if numbers.max() + 1 < FOLDS:
        return numbers
    if labels.value_counts().max() < FOLDS:
        # scikit-learn refuses labels of which all are too few to share out evenly.
        shuffled: NDArray[np.int64] = np.random.default_rng(seed_of("folds", seed)).permutation(numbers.max() + 1)
        return shuffled[numbers] % FOLDS
    folds = np.empty_like(numbers)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed_of("folds", seed) % 2**32)
    with warnings.catch_warnings():
        # scikit-learn warns of labels that fewer patients have than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(numbers, labels, groups=numbers)):
            folds[held_out] = fold
    return folds
