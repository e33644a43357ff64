"""What a number of cases could have shown: the smallest effect, and the chance to find a given one."""

from __future__ import annotations

import math

from scipy.special import nctdtr, nctdtrinc, ndtr, ndtri, stdtrit


def detectable(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest mean of paired differences that a two-sided t test of n pairs finds with a chance of `power`.

    sd: of the differences. NaN of fewer than two pairs. Exact by the noncentral t, but for the far tail.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    df = n - 1
    return float(nctdtrinc(df, 1 - power, -stdtrit(df, alpha / 2))) * sd / math.sqrt(n)


def power_of(effect: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """The chance that a two-sided t test of n pairs finds a mean difference of `effect`, of standard deviation sd."""
    if n < 2 or not math.isfinite(sd) or not math.isfinite(effect):
        return math.nan
    if sd == 0:
        return 1.0 if effect else alpha
    df, shift = n - 1, abs(effect) * math.sqrt(n) / sd
    critical = -stdtrit(df, alpha / 2)
    # Beyond this the noncentral t overflows, and the chance is 1 to all digits.
    if shift > critical + 30:
        return 1.0
    near, far = 1 - nctdtr(df, shift, critical), 1 - nctdtr(df, -shift, critical)
    return float(min(near + (far if math.isfinite(far) else 0.0), 1.0))


def detectable_z(se: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest difference that a two-sided z test finds with a chance of `power`; se: of the difference."""
    return float(-ndtri(alpha / 2) + ndtri(power)) * se


def power_of_z(effect: float, se: float, alpha: float = 0.05) -> float:
    """The chance that a two-sided z test finds a difference of `effect`; se: of the difference."""
    if not se > 0:
        return math.nan
    critical, shift = -ndtri(alpha / 2), abs(effect) / se
    return float(ndtr(shift - critical) + ndtr(-shift - critical))
