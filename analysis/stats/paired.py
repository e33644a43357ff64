"""Summaries of scores and paired comparisons of two scores of the same cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    difference = summary(a - b, alpha)
    return Comparison(difference.mean, difference.ci_low, difference.ci_high, _signed_rank_p(a - b), a.size)


def _signed_rank_p(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    # scipy's annotations do not know the result's fields.
    result: Any = wilcoxon(differences, zero_method="wilcox")
    return float(result.pvalue)


def _t_quantile(n: int, alpha: float) -> float:
    # scipy.stats takes most of a second to import; whoever only reads help or run states never waits for it.
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - alpha / 2))


def _scores(name: str, x: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(x, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"{name}: expected scores [N], N >= 1; got shape {list(scores.shape)}; pass one score a case")
    return scores
