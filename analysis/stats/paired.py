"""Summaries of scores and paired comparisons of two scores of the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.binary import check_alpha, same_index, vector


@dataclass(frozen=True)
class Summary:
    """Mean of scores; `sd` is the cases', `ci_*` the mean's. NaN where one case leaves them open."""

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
    p: float
    n: int
    sd: float
    """Of the differences (n - 1)."""


@dataclass(frozen=True)
class Bootstrap:
    """Mean of a - b over paired cases by resampling the cases."""

    difference: float
    ci_low: float
    ci_high: float
    """Percentiles."""
    p: float
    """Two-sided: how often a mean resampled around "no difference" lies as far out."""


def summary(x: ArrayLike, alpha: float = 0.05) -> Summary:
    """Mean, standard deviation (n - 1) and the mean's Student t interval.

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
    half = _t_quantile(n, alpha) * sd / n**0.5
    return Summary(mean, sd, n, mean - half, mean + half)


def compare(a: ArrayLike, b: ArrayLike, alpha: float = 0.05) -> Comparison:
    """Paired comparison: mean difference with its t interval, and Wilcoxon's signed-rank p (two-sided).

    a, b: [N] scores of the same cases in the same order, N at least 2. Identical scores give p = 1.
    Raises ValueError for other shapes and for scores that are not finite.
    Source: Wilcoxon 1945; exact for at most 50 cases without ties, zero differences left out.
    """
    a, b = _pairs(a, b)
    difference = summary(a - b, alpha)
    return Comparison(
        difference.mean, difference.ci_low, difference.ci_high, _signed_rank_p(a - b), a.size, difference.sd
    )


def bootstrap(a: ArrayLike, b: ArrayLike, alpha: float = 0.05, resamples: int = 10_000, seed: int = 0) -> Bootstrap:
    """Paired bootstrap of the mean difference: cases are drawn with replacement, each with both its scores.

    a, b: [N], as `compare` takes them; the same seed gives the same numbers. Raises as `compare` does.
    Source: Efron & Tibshirani 1993, chapters 13 and 16.
    """
    a, b = _pairs(a, b)
    differences = a - b
    # How often each case is drawn says all there is to know of a resample.
    if resamples < 100:
        raise ValueError(f"resamples: expected at least 100; got {resamples}; 10000 is usual")
    drawn = np.random.default_rng(seed).multinomial(a.size, np.full(a.size, 1 / a.size), size=resamples)
    mean = float(differences.mean())
    means = drawn @ differences / a.size
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    # Rounding must not tell a resampled mean from the equal one that was observed.
    slack = 1e-12 * float(np.abs(differences).max())
    beyond = int((np.abs(means - mean) >= abs(mean) - slack).sum())
    return Bootstrap(mean, float(low), float(high), (beyond + 1) / (resamples + 1))


def holm(p: Sequence[float]) -> list[float]:
    """p values of a family, adjusted so that the chance of any false finding stays below alpha. Source: Holm 1979."""
    values = _scores("p", p) if len(p) else np.empty(0)
    if ((values < 0) | (values > 1) | np.isnan(values)).any():
        raise ValueError("p: expected values from 0 to 1; got others or NaN; leave out what was not tested")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(values.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * (values.size - np.arange(values.size))), 1.0)
    return [float(x) for x in adjusted]


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


def _signed_rank_p(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    # scipy's annotations do not know the result's fields.
    # Zeros are left out here: scipy would take them for a reason not to be exact.
    result: Any = wilcoxon(differences[differences != 0])
    return float(result.pvalue)


def _t_quantile(n: int, alpha: float) -> float:
    # scipy.stats takes most of a second to import; whoever only reads help or run states never waits for it.
    from scipy.special import stdtrit

    check_alpha(alpha)
    return -float(stdtrit(n - 1, alpha / 2))


def _scores(name: str, x: ArrayLike) -> NDArray[np.float64]:
    try:
        return vector(name, x).astype(np.float64)
    except TypeError:
        raise ValueError(f"{name}: expected numbers; got {type(x).__name__}; pass a list or an array") from None
