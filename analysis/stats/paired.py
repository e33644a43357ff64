"""Summaries of scores and paired comparisons of two scores of the same cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.binary import check_alpha, same_index, vector

ALPHA = 0.05
"""Level of every test, before a correction."""
TESTS = "Student's paired t and Wilcoxon's signed rank, both two-sided and in the same direction"
"""The rule of `compare`, in words; sheets and locked plans print it."""
MOST_FLIPS = 16
"""Number of differences up to which all combinations of signs are tried."""


@dataclass(frozen=True)
class Summary:
    """Mean of scores; `sd` is the cases', `ci_*` the mean's. NaN if one case leaves them undefined."""

    mean: float
    sd: float
    n: int
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """Mean of a - b over paired cases, its interval, and the p of "no difference"."""

    difference: float
    ci_low: float
    ci_high: float
    """Student's t interval of the mean."""
    p: float
    """p of the rule behind every star and verdict: the larger of `p_mean` and `p_rank`; 1 if these two point in
    opposite directions. It is below alpha only if the interval of level 1 - alpha lies wholly on one side of 0."""
    n: int
    sd: float
    """SD of the differences (n - 1)."""
    p_mean: float
    """p of Student's paired t, two-sided."""
    p_rank: float
    """p of Wilcoxon's signed rank, two-sided."""

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return Student's interval of the mean at another level, such as that of a correction."""
        return t_interval(self.difference, self.sd, self.n, alpha)


def summary(x: ArrayLike, alpha: float = 0.05) -> Summary:
    """Return mean, standard deviation (n - 1) and the mean's Student t interval.

    x: [N] scores; infinite ones (the PSNR of identical volumes) make the mean infinite and the spread NaN.
    Raises ValueError when there is no score, one is NaN, or the shape is another.
    """
    scores = _scores("x", x)
    if np.isnan(scores).any():
        raise ValueError(f"x: expected scores; got NaN in {np.isnan(scores).sum()} of {scores.size}; score those cases")
    n = scores.size
    mean = float(scores.mean())
    if n < 2 or not np.isfinite(scores).all():
        return Summary(mean, float("nan"), n, float("nan"), float("nan"))
    sd = float(scores.std(ddof=1))
    return Summary(mean, sd, n, *t_interval(mean, sd, n, alpha))


def compare(a: ArrayLike, b: ArrayLike, alpha: float = 0.05) -> Comparison:
    """Paired comparison: mean difference with its t interval, Student's t and Wilcoxon's signed rank (two-sided).

    a, b: [N] scores of the same cases in the same order, N at least 2. Identical scores give p = 1.
    A difference counts where both tests find it in the same direction: t is about the mean, which tables show, and one
    extreme case can carry it; the ranks are not moved by one case, and can point the other way.
    Raises ValueError for other shapes and for scores that are not finite.
    Source: Wilcoxon 1945, exact for at most 50 cases without ties, zero differences left out; Berger 1982 for asking that
    two tests agree, whose level is that of each.
    """
    a, b = _pairs(a, b)
    differences = a - b
    mean = summary(differences, alpha)
    p_mean, p_rank = _t_p(mean), _signed_rank_p(differences)
    agree = _rank_direction(differences) * mean.mean > 0 or max(p_mean, p_rank) == 1.0
    p = max(p_mean, p_rank) if agree else 1.0
    return Comparison(mean.mean, mean.ci_low, mean.ci_high, p, mean.n, mean.sd, p_mean, p_rank)


def t_interval(mean: float, sd: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return Student's interval of a mean of n cases with standard deviation sd; NaN for one case."""
    if n < 2 or not math.isfinite(sd):
        return math.nan, math.nan
    half = _t_quantile(n, alpha) * sd / math.sqrt(n)
    return mean - half, mean + half


def sign_flip(differences: ArrayLike) -> float:
    """Return the two-sided p of "no difference" if every difference might as well have had the other sign.

    differences: [K] finite, such as one a seed. Exact up to K = 16, of more by 2^16 draws of signs (always the same ones).
    The smallest p is 2 / 2^K: fewer than six can never come below .05. Raises ValueError for other shapes and for values
    that are not finite. Source: Fisher 1935, chapter 21.
    """
    values = _scores("differences", differences)
    if not np.isfinite(values).all():
        raise ValueError("differences: expected finite values; got NaN or infinity; leave those out")
    exact = values.size <= MOST_FLIPS
    if exact:
        signs = 1 - 2 * ((np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (2**MOST_FLIPS, values.size))
    # Rounding must not separate a sum from an equal one in another order.
    reached = np.abs(signs @ values) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()
    return float(reached.mean()) if exact else (float(reached.sum()) + 1) / (len(signs) + 1)


def holm_levels(p: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Return for each p of a family the alpha that it had to stay below in Holm's correction.

    An interval of level 1 minus that alpha excludes "no difference" exactly if the adjusted p is below alpha.
    """
    adjusted = holm(p)
    least = alpha / len(adjusted) if adjusted else alpha
    levels: list[float] = []
    for one, more in zip(p, adjusted, strict=True):
        # The adjusted p is cut off at 1: then the widest interval is right.
        level = alpha * one / more if one > 0 and more < 1 else least
        levels.append(min(max(level, least), alpha))
    return levels


def holm(p: Sequence[float]) -> list[float]:
    """Return a family's p values, adjusted to keep the chance of any false finding below alpha. Source: Holm 1979."""
    values = _scores("p", p) if len(p) else np.empty(0)
    if ((values < 0) | (values > 1) | np.isnan(values)).any():
        raise ValueError("p: expected values from 0 to 1; got others or NaN; leave out what was not tested")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(values.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * (values.size - np.arange(values.size))), 1.0)
    return [float(x) for x in adjusted]


def side(ci: tuple[float, float], p: float, of: float = 0.0) -> int:
    """Return on which side of a value an effect lies: 1 above, -1 below, 0 undecided.

    It is decided where the whole interval `ci` lies on that side and p, corrected if there are several tests, is below ALPHA.
    All verdicts follow this rule; NaN decides nothing.
    """
    low, high = ci
    if not p < ALPHA:
        return 0
    return int(low > of) - int(high < of)


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    same_index(a=a, b=b)
    a, b = _scores("a", a), _scores("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a: expected {b.size} scores, one for each of b; got {a.size}; pair them by patient")
    for name, scores in (("a", a), ("b", b)):
        bad = int((~np.isfinite(scores)).sum())
        if bad:
            raise ValueError(
                f"{name}: expected finite scores; got NaN or infinity in {bad} of {scores.size}; leave those pairs out"
            )
    if a.size < 2:
        raise ValueError(f"a: expected at least 2 pairs; got {a.size}; score more cases")
    return a, b


def _t_p(of: Summary) -> float:
    """Return the two-sided p of a mean of 0."""
    from scipy.special import stdtr

    if not of.sd > 0:
        return 0.0 if of.mean else 1.0
    return 2 * float(stdtr(of.n - 1, -abs(of.mean) * math.sqrt(of.n) / of.sd))


def _rank_direction(differences: NDArray[np.float64]) -> float:
    """Positive if the ranks of the positive differences outweigh those of the negative ones."""
    from scipy.stats import rankdata

    left = differences[differences != 0]
    return float(rankdata(np.abs(left)) @ np.sign(left)) if left.size else 0.0


def _signed_rank_p(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    # scipy's annotations do not know the result's fields.
    # Zeros are left out here: scipy would not be exact with them.
    result: Any = wilcoxon(differences[differences != 0])
    return float(result.pvalue)


def _t_quantile(n: int, alpha: float) -> float:
    # scipy.stats takes most of a second to import; help and run states do not need it.
    from scipy.special import stdtrit

    check_alpha(alpha)
    return -float(stdtrit(n - 1, alpha / 2))


def _scores(name: str, x: ArrayLike) -> NDArray[np.float64]:
    try:
        return vector(name, x).astype(np.float64)
    except TypeError:
        raise ValueError(f"{name}: expected numbers; got {type(x).__name__}; pass a list or an array") from None
