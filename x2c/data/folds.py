"""Cross-validation splits of a cohort: every patient is tested once, by models that were not trained on the patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from x2c.core.errors import UserError
from x2c.data.cohort import Cohort


def fold_names(count: int) -> list[str]:
    """Return the values of a data set's `fold` for that many folds: `1/6` to `6/6`."""
    return [f"{number}/{count}" for number in range(1, count + 1)]


def in_fold(cohort: Cohort, fold: str) -> Cohort:
    """Return the same patients in other splits: a fold is tested, the next one validates, the others are trained on.

    A prepared data set has folds of its own, which are taken where they are as many and each has patients with and
    without embolism. Others are stratified by embolism and depend on the patients' ids alone, not on their order or their
    former splits. All rows of a patient stay together. An empty `fold` leaves the cohort as it is.
    Raises UserError where there are fewer patients with or without an embolism than folds.
    """
    if not fold:
        return cohort
    number, count = map(int, fold.split("/"))
    positive = (cohort.manifest["label"] == 1).groupby(cohort.manifest["patient"]).any().sort_index()
    smallest = int(min(positive.sum(), (~positive).sum()))
    if smallest < count:
        raise UserError(
            f"dataset.fold: expected at most {smallest} folds, a patient with and one without embolism in each; got {count}; "
            "ask for fewer, or take a larger data set"
        )
    tested = _prepared(cohort.manifest, positive, count)
    if tested is None:
        # Imported here: it takes seconds, and only folds need it.
        from sklearn.model_selection import StratifiedKFold

        tested = pd.Series(0, index=positive.index)
        splitter = StratifiedKFold(count, shuffle=True, random_state=0)
        for place, (_, rows) in enumerate(splitter.split(tested, positive), start=1):
            tested.iloc[rows] = place
    places = cohort.manifest["patient"].map(tested).to_numpy()
    split = np.where(places == number, "test", np.where(places == number % count + 1, "val", "train"))
    return replace(cohort, manifest=cohort.manifest.assign(split=split))


def _prepared(manifest: pd.DataFrame, positive: pd.Series, count: int) -> pd.Series | None:
    """Return the fold, from 1, that each patient is tested in by the manifest; None if it has no folds that fit."""
    if "fold" not in manifest:
        return None
    folds = manifest.groupby("patient")["fold"].first() + 1
    kinds = positive.groupby(folds).nunique()
    return folds if kinds.index.tolist() == list(range(1, count + 1)) and (kinds == 2).all() else None
