"""Validation of outcomes and scores (lists, arrays, pandas, torch; bool or 0/1), and their conversion to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_UNUSABLE = (TypeError, ValueError, OverflowError, RuntimeError)
"""Errors of numpy and torch for objects that are not arrays of numbers."""


def outcomes(name: str, y: ArrayLike) -> NDArray[np.bool_]:
    """Return outcomes [N] as booleans, from bool or 0/1. Raises ValueError for others, such as NaN."""
    values = vector(name, y)
    if values.dtype == np.bool_:
        return np.asarray(values, dtype=np.bool_)
    try:
        numbers = values.astype(np.float64)
    except _UNUSABLE:
        raise ValueError(
            f"{name}: expected 0 and 1; got {str(values.flat[0])!r}; turn the classes into 0 and 1"
        ) from None
    if np.isnan(numbers).any():
        raise ValueError(
            f"{name}: expected 0 and 1; got NaN in {np.isnan(numbers).sum()} of {numbers.size}; leave those cases out"
        )
    other = numbers[(numbers != 0) & (numbers != 1)]
    if other.size:
        raise ValueError(
            f"{name}: expected 0 and 1; got {other[0]:g} in {other.size} of {numbers.size}; leave unknown outcomes out"
        )
    return np.equal(numbers, 1)


def scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return scores [N], higher for the positive class; infinite ones are the highest or lowest.

    Raises ValueError for NaN, and for whole numbers that float64 cannot distinguish.
    """
    array = vector(name, values)
    try:
        numbers = array.astype(np.float64)
    except _UNUSABLE:
        raise ValueError(
            f"{name}: expected numbers; got {str(array.flat[0])!r}; pass the classifier's scores"
        ) from None
    if np.isnan(numbers).any():
        raise ValueError(
            f"{name}: expected scores; got NaN in {np.isnan(numbers).sum()} of {array.size}; score those cases or leave "
            "them out of every score"
        )
    if array.dtype.kind in "iu" and np.abs(numbers).max() > 2**53:
        raise ValueError(f"{name}: expected whole numbers up to 2⁵³; got {array.max()}; subtract or divide first")
    return numbers


def cases(y_true: ArrayLike, **named: ArrayLike) -> tuple[NDArray[np.bool_], list[NDArray[np.float64]]]:
    """Return outcomes and the scores of the same cases. Raises ValueError if they are not the same cases."""
    y = outcomes("y_true", y_true)
    same_index(y_true=y_true, **named)
    made = []
    for name, values in named.items():
        array = scores(name, values)
        if array.shape != y.shape:
            raise ValueError(f"{name}: expected {y.size} scores, one for each of y_true; got {array.size}; pair them")
        made.append(array)
    return y, made


def same_index(**named: ArrayLike) -> None:
    """Raise ValueError for pandas objects with different indices: pairing is by position, which would mix cases."""
    indexed: dict[str, Any] = {name: values for name, values in named.items() if hasattr(values, "iloc")}
    first = next(iter(indexed), "")
    for name, values in indexed.items():
        if not indexed[first].index.equals(values.index):
            raise ValueError(f"{name}: expected {first}'s index; got another; align them, or pass .to_numpy() of both")


def check_alpha(alpha: float) -> None:
    """Raise ValueError for an invalid error probability."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: expected a number between 0 and 1; got {alpha!r}; 0.05 gives 95 % intervals")


def vector(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return values [N], N at least 1; for torch's tensors, on any device, the values without their gradient.

    Raises ValueError for other shapes, missing values and masks, and for objects that cannot be an array.
    """
    if hasattr(values, "iloc") and hasattr(values, "isna"):
        series: Any = values
        missing = int(series.isna().to_numpy().sum())
        if missing:
            raise ValueError(f"{name}: expected no missing values; got {missing}; leave those cases out")
        values = series.to_numpy()
    try:
        array = np.asarray(_detached(values))
    except _UNUSABLE as error:
        reason = str(error).partition("\n")[0].replace(";", ",")
        raise ValueError(
            f"{name}: expected [N] numbers; got {type(values).__name__} ({reason}); pass a list or an array of one value a case"
        ) from error
    if isinstance(values, np.ma.MaskedArray) or array.dtype.kind in "cmM":
        raise ValueError(f"{name}: expected plain numbers; got {type(values).__name__} of {array.dtype}; convert them")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected [N], N >= 1; got shape {list(array.shape)}; pass one value a case")
    return array


def _detached(values: Any) -> Any:
    """Return torch's tensors, alone or in a list, as arrays; others unchanged. Does not import torch."""
    if isinstance(values, list | tuple):
        return [_detached(value) for value in values] if any(hasattr(value, "detach") for value in values) else values
    if not (hasattr(values, "detach") and hasattr(values, "cpu")):
        return values
    tensor = values.detach().cpu()
    # numpy has no bfloat16.
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
