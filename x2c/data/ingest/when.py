"""When an image was taken: used to compare two images, and never written down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
DATES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y")
DIGITS = {"%Y%m%d": 8, "%H%M%S": 6}
"""Lengths of what has no separators: `strptime` would guess where a shorter text belongs."""


@dataclass(frozen=True)
class Moment:
    """A date and, where known, the time of day."""

    day: date
    time: time | None = None

    def hours_to(self, other: Moment) -> float:
        """Hours between two moments; whole days where a time is missing."""
        if self.time is None or other.time is None:
            return abs((self.day - other.day).days) * 24.0
        apart = datetime.combine(self.day, self.time) - datetime.combine(other.day, other.time)
        return abs(apart.total_seconds()) / 3600


def moment_of(dataset: Any) -> Moment | None:
    """When a DICOM image was taken: its acquisition, or else its series or study; None where it does not say."""
    for what in ("Acquisition", "Series", "Study"):
        day = _parsed(str(dataset.get(f"{what}Date") or "")[:8], ("%Y%m%d",))
        if day is not None:
            digits = str(dataset.get(f"{what}Time") or "").split(".")[0]
            # Minutes and seconds may be missing.
            clock = _parsed(digits.ljust(6, "0"), ("%H%M%S",)) if digits else None
            return Moment(day.date(), clock.time() if clock else None)
    return None


def parse_moment(text: str) -> Moment:
    """`2024-05-31`, `20240531`, `31.05.2024`, or the first with a time. Raises ValueError for anything else."""
    text = text.strip()
    if stamp := _parsed(text, FORMATS):
        return Moment(stamp.date(), stamp.time())
    if day := _parsed(text, DATES):
        return Moment(day.date())
    raise ValueError("expected a date")


def _parsed(text: str, formats: tuple[str, ...]) -> datetime | None:
    for form in formats:
        if len(text) != DIGITS.get(form, len(text)):
            continue
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
