"""Who is trained on, validated on and tested on: by patient, with like shares of embolism everywhere."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from x2c.core.errors import UserError
from x2c.core.seeding import seed_of
from x2c.data.cohort import SPLITS

PAPER = (803, 50, 45)
"""Patients the paper trains on, validates on and tests on."""
FOLDS = 6
"""The paper's, for the classifiers."""
LEAST_TEST, LEAST_VAL = 2, 1
FEWEST = LEAST_TEST + LEAST_VAL + 1
"""Patients; of fewer, all are in train."""


def assign(patients: pd.Series, labels: pd.Series, proportions: tuple[int, int, int], seed: int) -> pd.DataFrame:
    """For each row (a volume, of a patient, with a label) its `split` and its `fold` (0 to 5).

    A patient is in one split and in one fold. A patient with an embolism in any volume counts as one who has one. Which
    patients go where depends on their order and on the seed. Whatever the proportions, the test set has at least two
    patients and the validation set one, as soon as there are four: no training does without.
    """
    label_of = labels.groupby(patients, sort=False).max()
    split_of = pd.Series(_splits(label_of.to_numpy(), proportions, seed), index=label_of.index)
    return pd.DataFrame({"split": split_of.loc[patients].to_numpy(), "fold": _folds(patients, labels, seed)})


def check(manifest: pd.DataFrame) -> None:
    """Raise UserError where a patient stands in two splits or folds, or an examination has lost a half."""
    for column in ("split", "fold"):
        across = int((manifest.groupby("patient")[column].nunique() > 1).sum())
        if across:
            raise UserError(
                f"manifest.parquet: {across} patients stand in more than one {column}; prepare the data again"
            )
    halves = manifest.groupby("study")["half"].apply(sorted)
    if not all(list(pair) == [0, 1] for pair in halves):
        raise UserError("manifest.parquet: an examination lacks a half; prepare the data again")


def _splits(labels: NDArray[np.int64], proportions: tuple[int, int, int], seed: int) -> NDArray[np.object_]:
    count, whole = len(labels), sum(proportions)
    test, val = (
        max(round(count * share / whole), least)
        for share, least in ((proportions[2], LEAST_TEST), (proportions[1], LEAST_VAL))
    )
    if count < FEWEST:
        test = val = 0
    splits = np.full(count, SPLITS[0], dtype=object)
    rng = np.random.default_rng(seed_of("splits", seed))
    for name, wanted in ((SPLITS[2], test), (SPLITS[1], val)):
        free = np.flatnonzero(splits == SPLITS[0])
        for label, quota in _quotas(labels[free], wanted).items():
            splits[rng.permutation(free[labels[free] == label])[:quota]] = name
    return splits


def _quotas(labels: NDArray[np.int64], wanted: int) -> dict[int, int]:
    """How many of each label make `wanted`, by largest remainders."""
    kinds, counts = np.unique(labels, return_counts=True)
    exact = counts * wanted / max(len(labels), 1)
    quotas = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - quotas), kind="stable")[: wanted - quotas.sum()]:
        quotas[index] += 1
    return dict(zip(kinds.tolist(), quotas.tolist(), strict=True))


def _folds(patients: pd.Series, labels: pd.Series, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    numbers, _ = pd.factorize(patients)
    if numbers.max() + 1 < FOLDS:
        return numbers
    if labels.value_counts().max() < FOLDS:
        # Too few of any label to share out evenly, which scikit-learn refuses.
        return np.random.default_rng(seed_of("folds", seed)).permutation(numbers.max() + 1)[numbers] % FOLDS
    folds = np.empty_like(numbers)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed_of("folds", seed) % 2**32)
    with warnings.catch_warnings():
        # Of a label that fewer patients have than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(numbers, labels, groups=numbers)):
            folds[held_out] = fold
    return folds
