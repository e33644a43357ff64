"""Outcomes and scores as users have them (lists, arrays, pandas; bool or 0/1), checked and turned into arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def outcomes(name: str, y: ArrayLike) -> NDArray[np.bool_]:
    """Outcomes [N] as booleans, from bool or 0/1. Raises ValueError for anything else, NaN and unknown labels included."""
    values = _vector(name, y)
    if values.dtype == np.bool_:
        return values
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected 0 and 1; got {str(values.flat[0])!r}; turn the classes into 0 and 1") from None
    if np.isnan(numbers).any():
        raise ValueError(
            f"{name}: expected 0 and 1; got NaN in {np.isnan(numbers).sum()} of {numbers.size}; leave those cases out"
        )
    other = numbers[(numbers != 0) & (numbers != 1)]
    if other.size:
        raise ValueError(
            f"{name}: expected 0 and 1; got {other[0]:g} in {other.size} of {numbers.size}; leave unknown outcomes out"
        )
    return numbers == 1


def scores(name: str, values: ArrayLike) -> NDArray[Any]:
    """Scores [N], higher for the positive class; infinite ones are the highest or lowest. Raises ValueError for NaN."""
    array = _vector(name, values)
    if array.dtype == np.bool_:
        return array.astype(np.int8)
    if array.dtype.kind not in "iuf":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: expected numbers; got {str(array.flat[0])!r}; pass the classifier's scores") from None
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(
            f"{name}: expected scores; got NaN in {np.isnan(array).sum()} of {array.size}; score those cases or leave "
            "them out of every score"
        )
    return array


def cases(y_true: ArrayLike, **named: ArrayLike) -> tuple[NDArray[np.bool_], list[NDArray[Any]]]:
    """Outcomes and the scores of the same cases. Raises ValueError where they are not the same cases."""
    y = outcomes("y_true", y_true)
    made = []
    for name, values in named.items():
        array = scores(name, values)
        if array.shape != y.shape:
            raise ValueError(f"{name}: expected {y.size} scores, one for each of y_true; got {array.size}; pair them")
        # Two pandas objects meet by position here, not by index: refuse where that would pair other cases.
        if hasattr(y_true, "iloc") and hasattr(values, "iloc") and not y_true.index.equals(values.index):
            raise ValueError(f"{name}: expected y_true's index; got another; align them, or pass .to_numpy() of both")
        made.append(array)
    return y, made


def _vector(name: str, values: ArrayLike) -> NDArray[Any]:
    if hasattr(values, "iloc") and hasattr(values, "isna"):
        missing = int(values.isna().to_numpy().sum())
        if missing:
            raise ValueError(f"{name}: expected no missing values; got {missing}; leave those cases out")
        values = values.to_numpy()
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected [N], N >= 1; got shape {list(array.shape)}; pass one value a case")
    return array
