"""The area under the ROC curve with its DeLong variance, and tests between two of them.

Ranks instead of pairs: n log n where the definition is n². Ties count half, exactly.
Source: DeLong, DeLong & Clarke-Pearson 1988; Sun & Xu 2014 for the ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtr, stdtrit

from analysis.stats.binary import cases, check_alpha

Interval = tuple[float, float]


@dataclass(frozen=True)
class AUC:
    """An area under the ROC curve. The variance is DeLong's."""

    auc: float
    variance: float
    ci: Interval
    """Interval on the AUC's own scale, clipped to [0, 1], as papers print it."""
    logit_ci: Interval
    """Interval on the logit scale: for small samples and high areas it covers better."""
    n_pos: int
    n_neg: int
    interval: str
    """Kind of both intervals: `DeLong`, or `exact` if the classes are perfectly separated (DeLong's has no width)."""


@dataclass(frozen=True)
class PairedTest:
    """Two scores of the same cases, a minus b."""

    auc_a: float
    auc_b: float
    difference: float
    variance: float
    """Variance of the difference."""
    z: float
    p: float
    """Two-sided p."""
    diff_ci: Interval


@dataclass(frozen=True)
class UnpairedTest:
    """Two scores of different cases, a minus b: Welch's t with its degrees of freedom."""

    auc_a: float
    auc_b: float
    difference: float
    variance: float
    t: float
    df: float
    p: float
    """Two-sided p."""
    diff_ci: Interval


def auc(y_true: ArrayLike, y_score: ArrayLike, alpha: float = 0.05) -> AUC:
    """Area under the ROC curve with variance and intervals of coverage 1 - alpha.

    y_true: [N] bool or 0/1. y_score: [N], higher means positive.
    Perfectly separated classes (an area of 0 or 1) leave DeLong no variance: then the interval is exact. Of the pairs of
    cases min(n_pos, n_neg) are independent, so an area θ separates all with a chance of at most θ^min(n_pos, n_neg).
    Scores that are all alike give .5 with an interval of no width, as in pROC.
    Raises ValueError for NaN, other shapes and labels, and fewer than two cases of a class.
    """
    check_alpha(alpha)
    y, (score,) = cases(y_true, y_score=y_score)
    area, variance = _area(*_placements(y, score))
    n_pos = int(y.sum())
    n_neg = y.size - n_pos
    if area in (0.0, 1.0):
        bound = (alpha / 2) ** (1 / min(n_pos, n_neg))
        exact = (bound, 1.0) if area == 1.0 else (0.0, 1 - bound)
        return AUC(area, variance, exact, exact, n_pos, n_neg, "exact")
    half = -float(ndtri(alpha / 2)) * math.sqrt(variance)
    middle, spread = float(logit(area)), half / (area * (1 - area))
    return AUC(
        area,
        variance,
        (max(area - half, 0.0), min(area + half, 1.0)),
        (float(expit(middle - spread)), float(expit(middle + spread))),
        n_pos,
        n_neg,
        "DeLong",
    )


def paired_test(y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, alpha: float = 0.05) -> PairedTest:
    """DeLong's test of two scores of the same cases.

    y_true, score_a, score_b: [N], as `auc` takes them. Scores that order the cases alike give z = 0 and p = 1. Where the
    areas differ and the variance is 0 (all placements alike, as with two perfect orders of opposite sense) z is infinite
    and p is 0, as in pROC: no more than a description of those very cases.
    Raises as `auc` does.
    """
    check_alpha(alpha)
    y, (a, b) = cases(y_true, score_a=score_a, score_b=score_b)
    (pos_a, neg_a), (pos_b, neg_b) = _placements(y, a), _placements(y, b)
    auc_a, _ = _area(pos_a, neg_a)
    auc_b, _ = _area(pos_b, neg_b)
    variance = float((pos_a - pos_b).var(ddof=1) / pos_a.size + (neg_a - neg_b).var(ddof=1) / neg_a.size)
    difference = auc_a - auc_b
    if np.array_equal(pos_a, pos_b) and np.array_equal(neg_a, neg_b):
        difference = variance = 0.0
    z = _ratio(difference, math.sqrt(variance))
    half = -float(ndtri(alpha / 2)) * math.sqrt(variance)
    interval = (max(difference - half, -1.0), min(difference + half, 1.0))
    return PairedTest(auc_a, auc_b, difference, variance, z, 2 * float(ndtr(-abs(z))), interval)


def unpaired_test(
    y_true_a: ArrayLike, score_a: ArrayLike, y_true_b: ArrayLike, score_b: ArrayLike, alpha: float = 0.05
) -> UnpairedTest:
    """DeLong's test of two scores of different cases, with Satterthwaite's degrees of freedom, as pROC has it.

    Raises as `auc` does.
    """
    check_alpha(alpha)
    areas, parts = [], []
    for y_true, score in ((y_true_a, score_a), (y_true_b, score_b)):
        y, (values,) = cases(y_true, score=score)
        area, variance = _area(*_placements(y, values))
        areas.append(area)
        parts.append((variance, y.size))
    total = sum(variance for variance, _ in parts)
    welch = sum(variance**2 / (n - 1) for variance, n in parts)
    df = total**2 / welch if welch else math.inf
    difference = areas[0] - areas[1]
    t = _ratio(difference, math.sqrt(total))
    finite = math.isfinite(df)
    p = 2 * float(stdtr(df, -abs(t)) if finite else ndtr(-abs(t)))
    half = float(-stdtrit(df, alpha / 2) if finite else -ndtri(alpha / 2)) * math.sqrt(total)
    interval = (max(difference - half, -1.0), min(difference + half, 1.0))
    return UnpairedTest(areas[0], areas[1], difference, total, t, df, p, interval)


def _placements(y: NDArray[np.bool_], score: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each positive the share of negatives below it, for each negative that of positives above; ties half.

    DeLong's structural components V10 [n_pos] and V01 [n_neg], cases in their order.
    """
    positive, negative = score[y], score[~y]
    for name, members in (("positive", positive), ("negative", negative)):
        if members.size < 2:
            raise ValueError(
                f"y_true: expected at least 2 {name} cases, for a variance; got {members.size} of {y.size}; add cases"
            )
    return _share_below(positive, negative), 1 - _share_below(negative, positive)


def _share_below(values: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    # Looking up sorted values is several times faster than in their given order, thanks to the cache.
    order = np.argsort(values)
    among, ordered = np.sort(others), values[order]
    twice = np.searchsorted(among, ordered, "left") + np.searchsorted(among, ordered, "right")
    share = np.empty(values.size)
    share[order] = twice / (2 * others.size)
    return share


def _area(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[float, float]:
    area = float(positive.mean())
    # Perfect separation means every pair, whatever the mean's last digit is.
    if (positive == 1).all() or (positive == 0).all():
        area = float(positive[0])
    return area, float(positive.var(ddof=1) / positive.size + negative.var(ddof=1) / negative.size)


def _ratio(difference: float, error: float) -> float:
    if difference == 0:
        return 0.0
    return difference / error if error else math.copysign(math.inf, difference)
