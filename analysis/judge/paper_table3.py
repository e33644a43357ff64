"""Consistency check of a published table: counts that fit printed rates, intervals that fit their areas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import logit

from analysis.tabulate.embolism import RATES, paper_values

LARGEST = 100
"""Largest number of cases of one class for which counts are tried."""
STATED_N = 45
"""Size of the paper's test set."""
IN_TABLE = {"generated": {"auc": "0.80"}}
"""Values that the paper's Table 3 prints and that its running text gives with more digits; table3.csv has the text's."""


@dataclass(frozen=True)
class Counts:
    """A confusion matrix whose rates round to all that is printed."""

    tp: int
    fn: int
    tn: int
    fp: int

    @property
    def n(self) -> int:
        """Number of cases."""
        return self.tp + self.fn + self.tn + self.fp

    @property
    def times(self) -> int:
        """The factor by which these counts are a multiple of the smallest ones with the same rates."""
        return math.gcd(self.tp, self.fn, self.tn, self.fp)


@dataclass(frozen=True)
class Interval:
    """An area and its interval, read with as many decimals as they are printed with."""

    offset: float
    """Distance of the area from the middle of its interval."""
    rounding: float
    """Distance by which rounding alone could move it."""
    logit_offset: float
    logit_rounding: float
    """The same distance on the logit scale."""

    @property
    def symmetric(self) -> bool:
        """Whether the interval can be a normal one, as DeLong's is."""
        return abs(self.offset) <= self.rounding + 1e-9

    @property
    def logit_symmetric(self) -> bool:
        """Whether it can be a logit one."""
        return abs(self.logit_offset) <= self.logit_rounding + 1e-9

    @property
    def kind(self) -> str:
        """The kind of interval in words."""
        kinds = [name for name, fits in (("normal", self.symmetric), ("logit", self.logit_symmetric)) if fits]
        return " or ".join(kinds) if kinds else "neither normal nor logit"


@dataclass(frozen=True)
class Check:
    """The check of one row of Table 3 against itself."""

    arm: str
    counts: tuple[Counts, ...]
    """All counts that fit, the fewest cases first. Every multiple of them fits too."""
    fits_stated_n: bool
    interval: Interval
    """The interval as printed: 0.9 is anything from 0.85 to 0.95."""
    padded: Interval | None = None
    """The interval if a zero was dropped (0.9 is 0.90, as precise as other rows); None if none can be missing."""
    readings: tuple[str, str] = ("", "")
    """The differing numbers, as printed and with the zero."""

    @property
    def smallest(self) -> tuple[Counts, ...]:
        """The members of `counts` that are not multiples of smaller ones."""
        return tuple(counts for counts in self.counts if counts.times == 1)

    @property
    def offset(self) -> float:
        """Distance of the area from the middle of its interval."""
        return self.interval.offset

    @property
    def rounding(self) -> float:
        """Distance by which rounding alone could move it, read as printed."""
        return self.interval.rounding

    @property
    def symmetric(self) -> bool:
        """Whether the interval, read as printed, can be a normal one."""
        return self.interval.symmetric

    @property
    def logit_symmetric(self) -> bool:
        """Whether the interval, read as printed, can be a logit one."""
        return self.interval.logit_symmetric

    @property
    def interval_kind(self) -> str:
        """The kind of interval in words, for both readings if there are two."""
        if self.padded is None:
            return self.interval.kind
        printed, padded = self.readings
        if self.padded.kind == self.interval.kind:
            return f"{self.interval.kind} ({printed} as printed or as {padded})"
        return f"{self.interval.kind} (if {printed} as printed); {self.padded.kind} (if it is {padded})"


def check(as_in_table: bool = False) -> list[Check]:
    """Check every row of the paper's Table 3; numbers with fewer decimals than others of a column have two readings.

    `as_in_table` uses the table's own numbers where the paper's text has others; these are read as printed.
    """
    rows = paper_values()
    decimals = {key: max(_decimals(line[key]) for line in rows.values()) for key in ("auc", "ci_low", "ci_high")}
    made = []
    for arm, line in rows.items():
        own = IN_TABLE.get(arm, {}) if as_in_table else {}
        made.append(check_row(arm, {**line, **own}, {key: n for key, n in decimals.items() if key not in own}))
    return made


def check_row(arm: str, line: Mapping[str, str], decimals: Mapping[str, int] | None = None) -> Check:
    """A row as printed: auc, ci_low, ci_high, and the rates in per cent.

    `decimals`: how many the area and the ends of the interval have in the other rows, where a shorter number may have lost
    a zero.
    """
    counts = fitting_counts({rate: line[rate] for rate in RATES})
    whole = {key: _padded(line[key], places) for key, places in (decimals or {}).items()}
    changed = [key for key, text in whole.items() if text != line[key]]
    return Check(
        arm,
        tuple(counts),
        any(c.n == STATED_N for c in counts),
        _interval(line),
        _interval({**line, **whole}) if changed else None,
        (", ".join(line[key] for key in changed), ", ".join(whole[key] for key in changed)),
    )


def _interval(line: Mapping[str, str]) -> Interval:
    area, low, high = (float(line[key]) for key in ("auc", "ci_low", "ci_high"))
    half = {key: _half_unit(line[key]) for key in ("auc", "ci_low", "ci_high")}
    slopes = {key: 1 / (x * (1 - x)) for key, x in (("auc", area), ("ci_low", low), ("ci_high", high))}
    return Interval(
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
    return 0.5 * 10.0 ** -_decimals(printed)


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])


def _padded(printed: str, decimals: int) -> str:
    """The number with zeros up to so many decimals."""
    whole, _, part = printed.partition(".")
    return f"{whole}.{part:0<{decimals}}" if decimals else printed
