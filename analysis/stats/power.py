"""Statistical power: the minimum detectable difference of a number of cases, and the number for a given effect."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtrit

SIMULATED = 3000
"""Samples of the simulation of a minimum detectable difference; its power is right to ± .015."""
EXACT_RANKS = 50
"""Cases up to which the signed-rank test is exact, as `analysis.stats.paired` has it."""
MANY = 60
"""Number of cases from which a formula replaces the simulation."""
RANK_EFFICIENCY = 3 / math.pi
"""Efficiency of Wilcoxon's signed rank relative to Student's t on normal differences (Hodges & Lehmann 1956)."""


def detectable(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the minimum detectable mean of paired differences: `analysis.stats.paired.compare` finds it with `power`.

    That is: of n normal differences with standard deviation sd, that Student's t and the signed rank both have a p below
    alpha. NaN of fewer than two pairs; infinite where the ranks of so few cases cannot come below alpha at all.
    By simulation (the same seed, the same number); from 60 cases on by the power of the t test at n · 3/π.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    return sd * _detectable_in_sd(n, alpha, power)


@cache
def _detectable_in_sd(n: int, alpha: float, power: float) -> float:
    if n >= MANY:
        effective = n * RANK_EFFICIENCY
        df = effective - 1
        return float(nctdtrinc(df, 1 - power, -stdtrit(df, alpha / 2))) / math.sqrt(effective)
    limit = _largest_rank_sum(n, alpha)
    if limit < 0:
        return math.inf
    noise = np.random.default_rng(n).standard_normal((SIMULATED, n))
    critical = -stdtrit(n - 1, alpha / 2)

    def chance(shift: float) -> float:
        x = noise + shift
        t = x.mean(1) * math.sqrt(n) / x.std(1, ddof=1)
        ranks = np.abs(x).argsort(1).argsort(1) + 1
        below = np.where(x < 0, ranks, 0).sum(1)
        return float(((t > critical) & (below <= limit)).mean())

    low, high = 0.0, 1.0
    while chance(high) < power:
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) < power else (low, middle)
    return high


def _largest_rank_sum(n: int, alpha: float) -> int:
    """Return the largest sum of the lesser ranks that is significant in the two-sided signed-rank test; -1: none is."""
    whole = n * (n + 1) // 2
    if n > EXACT_RANKS:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(whole / 2 + float(ndtri(alpha / 2)) * deviation)
    ways = np.zeros(whole + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] += ways[: whole + 1 - rank].copy()
    p = 2 * ways.cumsum() / 2.0**n
    return int((p < alpha).sum()) - 1


def patients_needed(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return about how many patients show a mean difference of `effect` in both tests, by the normal approximation.

    Infinite if effect is 0, NaN if sd is unknown.
    """
    if not math.isfinite(sd) or not math.isfinite(effect):
        return math.nan
    if effect == 0:
        return math.inf
    return ((float(ndtri(power)) - float(ndtri(alpha / 2))) * sd / effect) ** 2 / RANK_EFFICIENCY


def detectable_z(se: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the minimum detectable difference of a two-sided z test with chance `power`; se: of the difference."""
    return float(-ndtri(alpha / 2) + ndtri(power)) * se
