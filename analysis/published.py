"""Whether a published table agrees with itself: counts that fit printed rates, intervals that fit their areas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import logit

from analysis.table3 import RATES, paper_values

LARGEST = 100
"""Cases of one class up to which counts are tried."""
STATED_N = 45
"""The paper's test set."""


@dataclass(frozen=True)
class Counts:
    """A confusion matrix whose rates round to all that is printed."""

    tp: int
    fn: int
    tn: int
    fp: int

    @property
    def n(self) -> int:
        """Cases."""
        return self.tp + self.fn + self.tn + self.fp


@dataclass(frozen=True)
class Check:
    """What one row of Table 3 says of itself."""

    arm: str
    counts: tuple[Counts, ...]
    """All that fit, the fewest cases first."""
    fits_stated_n: bool
    offset: float
    """How far the area lies from the middle of its interval."""
    rounding: float
    """How far rounding alone could move it."""
    logit_offset: float
    logit_rounding: float
    """The same on the logit scale."""

    @property
    def symmetric(self) -> bool:
        """Whether the interval can be a normal one, as DeLong's is."""
        return abs(self.offset) <= self.rounding + 1e-9

    @property
    def logit_symmetric(self) -> bool:
        """Whether it can be a logit one."""
        return abs(self.logit_offset) <= self.logit_rounding + 1e-9

    @property
    def interval_kind(self) -> str:
        """In words."""
        kinds = [name for name, fits in (("normal", self.symmetric), ("logit", self.logit_symmetric)) if fits]
        return " or ".join(kinds) if kinds else "neither normal nor logit"


def check() -> list[Check]:
    """Every row of the paper's Table 3."""
    return [check_row(arm, line) for arm, line in paper_values().items()]


def check_row(arm: str, line: Mapping[str, str]) -> Check:
    """A row as printed: auc, ci_low, ci_high, and the rates in per cent."""
    counts = fitting_counts({rate: line[rate] for rate in RATES})
    area, low, high = (float(line[key]) for key in ("auc", "ci_low", "ci_high"))
    half = {key: _half_unit(line[key]) for key in ("auc", "ci_low", "ci_high")}
    slopes = {key: 1 / (x * (1 - x)) for key, x in (("auc", area), ("ci_low", low), ("ci_high", high))}
    return Check(
        arm,
        tuple(counts),
        any(c.n == STATED_N for c in counts),
        (low + high) / 2 - area,
        half["auc"] + (half["ci_low"] + half["ci_high"]) / 2,
        float(logit(low) + logit(high)) / 2 - float(logit(area)),
        half["auc"] * slopes["auc"] + (half["ci_low"] * slopes["ci_low"] + half["ci_high"] * slopes["ci_high"]) / 2,
    )


def fitting_counts(printed: Mapping[str, str], largest: int = LARGEST) -> list[Counts]:
    """All counts with up to `largest` cases of each class whose rates, in per cent, round to what is printed."""
    positives = _shares(printed["sensitivity"], largest)
    negatives = _shares(printed["specificity"], largest)
    found = [
        Counts(tp, n_pos - tp, tn, n_neg - tn)
        for tp, n_pos in positives
        for tn, n_neg in negatives
        if _prints(tp + tn, n_pos + n_neg, printed["accuracy"])
        and _prints(tp, tp + n_neg - tn, printed["ppv"])
        and _prints(tn, tn + n_pos - tp, printed["npv"])
    ]
    return sorted(found, key=lambda c: (c.n, c.tp))


def _shares(printed: str, largest: int) -> list[tuple[int, int]]:
    return [(hits, n) for n in range(1, largest + 1) for hits in range(n + 1) if _prints(hits, n, printed)]


def _prints(hits: int, n: int, printed: str) -> bool:
    """Whether a share in per cent rounds to what is printed, half either way."""
    return bool(n) and abs(100 * hits / n - float(printed)) <= _half_unit(printed) + 1e-9


def _half_unit(printed: str) -> float:
    decimals = len(printed.partition(".")[2])
    return 0.5 * 10.0**-decimals
