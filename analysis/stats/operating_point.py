"""A threshold on a score, its rates, and the difference between two classifiers at their thresholds."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri

from analysis.stats.binary import cases, check_alpha, outcomes, same_index

_SMALLEST_P = 1e-300
"""Lower end of the search for a p: quantiles of less overflow."""


@dataclass(frozen=True)
class OperatingPoint:
    """Cases at or above a threshold called positive: counts and rates. An undefined rate is NaN."""

    threshold: float
    tp: int
    fn: int
    tn: int
    fp: int
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    accuracy: float
    balanced_accuracy: float
    """Mean of sensitivity and specificity: .5 for calling all cases alike, whatever their shares."""
    ci: Mapping[str, tuple[float, float]]
    """Wilson's interval of each rate, by its name; for the balanced accuracy by square-and-add of its two rates'."""
    undefined: Mapping[str, str]
    """Reason why a rate is NaN, by its name."""


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same cases: how many both, and each alone, got right."""

    both: int
    only_a: int
    only_b: int
    n: int
    difference: float
    """Share right of a minus that of b."""
    p: float
    """Exact p, two-sided."""
    ci: tuple[float, float]
    """Newcombe's interval of the difference."""


@dataclass(frozen=True)
class BalancedDifference:
    """Balanced accuracy of a minus that of b, on the same cases."""

    difference: float
    ci: tuple[float, float]
    """Interval by square-and-add of Newcombe's intervals of the two rates' differences."""
    p: float
    """Two-sided p: the error probability at which the interval ends at 0. It is below alpha if `ci` excludes 0."""


def youden(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the threshold with the largest sum of sensitivity and specificity; cases at or above it are positive.

    It lies midway between two scores, as pROC's do. Of equally good ones it is the highest, the most specific. Where no
    threshold is better than calling all cases alike, it is +inf: none is positive.
    y_true, y_score: [N], as `analysis.stats.delong.auc` takes them. Choose it on validation cases, never on those it is
    judged by. Raises ValueError for NaN, other shapes and labels, and where a class is missing.
    Source: Youden 1950.
    """
    y, (score,) = cases(y_true, y_score=y_score)
    n_pos = int(y.sum())
    n_neg = y.size - n_pos
    if not n_pos or not n_neg:
        raise ValueError(f"y_true: expected both classes; got {n_pos} positive and {n_neg} negative; add cases")
    order = np.argsort(score, kind="stable")
    values, positive = score[order], y[order]
    # Thresholds lie below the first of each run of equal scores; the last is above all of them.
    starts = np.r_[0, np.flatnonzero(values[1:] != values[:-1]) + 1, y.size]
    positives_below = np.r_[0, np.cumsum(positive)][starts]
    # n_pos · n_neg · (sensitivity + specificity) in whole numbers, so that ties are ties.
    worth = (n_pos - positives_below) * n_neg + (starts - positives_below) * n_pos
    best = int(np.flatnonzero(worth == worth.max())[-1])
    if best in (0, starts.size - 1):
        return math.inf
    below, above = float(values[starts[best] - 1]), float(values[starts[best]])
    # Infinity as a threshold calls no one positive, not even an infinite score.
    above = min(above, sys.float_info.max)
    middle = below + (above - below) / 2
    return middle if below < middle <= above else above


def at(y_true: ArrayLike, y_score: ArrayLike, threshold: float, alpha: float = 0.05) -> OperatingPoint:
    """Counts and rates of calling cases at or above a threshold positive, with Wilson's intervals; at +inf none is.

    y_true, y_score: [N]; one class alone leaves some rates NaN, with the reason. Raises ValueError for NaN and other
    shapes and labels.
    """
    y, (score,) = cases(y_true, y_score=y_score)
    if math.isnan(threshold):
        raise ValueError("threshold: expected a number; got NaN; take it from `youden` on validation cases")
    called = (score >= threshold) & (threshold < math.inf)
    return from_counts(
        int((called & y).sum()),
        int((~called & y).sum()),
        int((~called & ~y).sum()),
        int((called & ~y).sum()),
        threshold,
        alpha,
    )


def from_counts(tp: int, fn: int, tn: int, fp: int, threshold: float = math.nan, alpha: float = 0.05) -> OperatingPoint:
    """Rates of counts, such as those summed over folds that have a threshold each."""
    tp, fn, tn, fp = (int(count) for count in (tp, fn, tn, fp))
    parts = {
        "sensitivity": (tp, tp + fn, "no positive case"),
        "specificity": (tn, tn + fp, "no negative case"),
        "ppv": (tp, tp + fp, "no case was called positive"),
        "npv": (tn, tn + fn, "no case was called negative"),
        "accuracy": (tp + tn, tp + fn + tn + fp, "no case"),
    }
    rates = {name: hits / of if of else math.nan for name, (hits, of, _) in parts.items()}
    intervals = {name: wilson(hits, of, alpha) for name, (hits, of, _) in parts.items()}
    undefined = {name: reason for name, (_, of, reason) in parts.items() if not of}
    both = ("sensitivity", "specificity")
    rates["balanced_accuracy"] = sum(rates[name] for name in both) / 2
    intervals["balanced_accuracy"] = _of_mean([(rates[name], intervals[name]) for name in both])
    if lacking := next((undefined[name] for name in both if name in undefined), ""):
        undefined["balanced_accuracy"] = lacking
    return OperatingPoint(threshold, tp, fn, tn, fp, **rates, ci=intervals, undefined=undefined)


def wilson(hits: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval of a share; NaN of no cases. Source: Wilson 1927."""
    check_alpha(alpha)
    hits, n = int(hits), int(n)
    if not 0 <= hits <= n:
        raise ValueError(f"hits: expected 0 to n = {n}; got {hits}; count the hits among the n cases")
    if n == 0:
        return math.nan, math.nan
    z, share = -float(ndtri(alpha / 2)), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 and 1 but for its last digit.
    return 0.0 if hits == 0 else max(middle - half, 0.0), 1.0 if hits == n else min(middle + half, 1.0)


def mcnemar(right_a: ArrayLike, right_b: ArrayLike, alpha: float = 0.05) -> McNemar:
    """Exact McNemar test of two classifiers' hits [N] on the same cases.

    Among positive cases it compares sensitivities, among negative ones specificities. No case that only one got right
    gives p = 1. Raises ValueError for other shapes and values.
    Source: McNemar 1947; Newcombe 1998, method 10, for the interval.
    """
    a, b = outcomes("right_a", right_a), outcomes("right_b", right_b)
    same_index(right_a=right_a, right_b=right_b)
    if a.shape != b.shape:
        raise ValueError(f"right_a: expected {b.size} cases, as right_b has; got {a.size}; pair them")
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    n, discordant = a.size, only_a + only_b
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5))) if discordant else 1.0
    difference, interval = _newcombe(both, only_a, only_b, n, alpha)
    return McNemar(both, only_a, only_b, n, difference, p, interval)


def balanced_difference(sensitivity: McNemar, specificity: McNemar, alpha: float = 0.05) -> BalancedDifference:
    """The difference of two classifiers' balanced accuracies from their two McNemar tests, with interval and p.

    The p is that of the interval turned round, so that both say the same; classifiers of equal balanced accuracy give
    p = 1. Simulated, at most 5.6 % of true nulls have a p below .05, where a z test with Wald's variances has up to 8 % at
    12 + 30 cases. Source: Newcombe 1998, method 10; Zou & Donner 2008 for the sum.
    """
    check_alpha(alpha)
    tests = (sensitivity, specificity)

    def interval(at_alpha: float) -> tuple[float, float]:
        return _of_mean([_newcombe(test.both, test.only_a, test.only_b, test.n, at_alpha) for test in tests])

    difference = sum(test.difference for test in tests) / 2
    # In whole numbers, so that rounding makes no difference of none.
    lead = sum((test.only_a - test.only_b) * other.n for test, other in zip(tests, reversed(tests), strict=True))
    if lead == 0:
        return BalancedDifference(0.0, interval(alpha), 1.0)
    low, high = math.log(_SMALLEST_P), 0.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        beyond = interval(math.exp(middle))
        if beyond[0] > 0 or beyond[1] < 0:
            high = middle
        else:
            low = middle
    return BalancedDifference(difference, interval(alpha), math.exp(high))


def _newcombe(both: int, only_a: int, only_b: int, n: int, alpha: float) -> tuple[float, tuple[float, float]]:
    """Return the difference of two shares of the same n cases with its interval."""
    neither = n - both - only_a - only_b
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = wilson(both + only_a, n, alpha), wilson(both + only_b, n, alpha)
    product = (both + only_a) * (both + only_b) * (neither + only_b) * (neither + only_a)
    cross = both * neither - only_a * only_b
    # Newcombe's continuity correction of a positive correlation.
    phi = (max(cross - n / 2, 0) if cross > 0 else cross) / math.sqrt(product) if product else 0.0

    def half(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    difference = share_a - share_b
    return difference, (
        difference - half(share_a - low_a, high_b - share_b),
        difference + half(high_a - share_a, share_b - low_b),
    )


def _of_mean(parts: Sequence[tuple[float, tuple[float, float]]]) -> tuple[float, float]:
    """Return the interval of the mean of independent estimates from theirs, by square-and-add."""
    mean = sum(value for value, _ in parts) / len(parts)
    below = math.hypot(*(value - low for value, (low, _) in parts)) / len(parts)
    above = math.hypot(*(high - value for value, (_, high) in parts)) / len(parts)
    return mean - below, mean + above
