"""Checks: questions about runs with their answers, and verdicts from an interval and a test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from analysis.read.runs import StandIn
from analysis.render.numbers import number
from analysis.stats.paired import holm, side

Verdict = Literal["yes", "no", "cannot tell", "not measured"]
"""`cannot tell`: the data leave it open. `not measured`: there are no data."""


@dataclass(frozen=True)
class Check:
    """A question with its answer. NaN for missing numbers; an untested check has no p and says what is missing."""

    topic: str
    question: str
    measured: str
    claim: str = ""
    """Statement that holds if the verdict is yes."""
    unit: str = ""
    effect: float = math.nan
    """Measured effect; positive supports yes."""
    ci_low: float = math.nan
    ci_high: float = math.nan
    p: float = math.nan
    n: int = 0
    """Number of patients; for convergence, of validation scores."""
    null: float = 0.0
    """Effect that means "no"."""
    least: float = 0.0
    """Smallest distance of an effect from `null` that counts."""
    p_holm: float = math.nan
    verdict: Verdict = "cannot tell"
    says: str = ""
    bound: str = ""
    """Sentence on what limits the effect, shown with every verdict of a tested check."""
    stand_ins: tuple[StandIn, ...] = ()
    variant: str = ""
    """Variant whose training is checked; empty for other topics."""


def not_measured(check: Check, why: str) -> Check:
    """Return the check without data; `why` says what is missing, and what to run if that helps."""
    return replace(check, verdict="not measured", says=why)


def corrected(checks: Sequence[Check]) -> list[Check]:
    """Return the checks with Holm's correction over the tested ones, and the verdicts.

    Yes: significant, and the whole interval beyond `null`. No: the whole interval below the least effect that counts.
    """
    tested = iter(holm([check.p for check in checks if not math.isnan(check.p)]))
    judged = [check if math.isnan(check.p) else _judged(replace(check, p_holm=next(tested))) for check in checks]
    return [check if math.isnan(check.p) else _bounded(check) for check in judged]


def _bounded(check: Check) -> Check:
    """Return the check with the limit of its effect."""
    return replace(check, says=f"{check.says} {check.bound}".strip())


def _judged(check: Check) -> Check:
    """Return the check with its verdict and its sentence."""
    decided = side((check.ci_low, check.ci_high), check.p_holm, check.null)
    limit = check.null + check.least
    unit = f" {check.unit}" if check.unit else ""
    signed = check.null == 0
    low, high, least = (number(value, signed=signed) + unit for value in (check.ci_low, check.ci_high, limit))
    if decided > 0:
        little = f", by less than {least}" if check.ci_high < limit else ""
        return replace(check, verdict="yes", says=f"{check.claim[:1].upper()}{check.claim[1:]}{little}.")
    if check.ci_high < limit:
        says = (
            "The effect has the opposite direction."
            if decided < 0
            else f"An effect of {least} or more does not fit the data."
        )
        return replace(check, verdict="no", says=says)
    if check.ci_low > check.null:
        return replace(check, says="Suggestive, but not significant after Holm's correction.")
    if math.isnan(check.ci_low):
        return replace(check, says="The data leave no interval.")
    return replace(check, says=f"Anything from {low} to {high} fits these {check.n} patients.")
