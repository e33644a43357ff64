"""The time at which an image was taken: used to compare two images, and never written down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y")
SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
"""Formats of dates: month, day and year as in the USA, or day, month and year."""
MONTHS = 12
DIGITS = {"%Y%m%d": 8, "%H%M%S": 6}
"""Lengths of dates without separators: `strptime` would guess the fields of a shorter text."""


@dataclass(frozen=True)
class Moment:
    """A date and, if known, the time of day by the local clock, and its offset from UTC."""

    day: date
    time: time | None = None
    utc_offset: timedelta | None = None

    def hours_to(self, other: Moment) -> float:
        """Return the hours between two moments; whole days if a time is missing.

        Local clocks are compared, unless both tell their UTC offsets.
        """
        if self.time is None or other.time is None:
            return abs((self.day - other.day).days) * 24.0
        apart = datetime.combine(self.day, self.time) - datetime.combine(other.day, other.time)
        if self.utc_offset is not None and other.utc_offset is not None:
            apart -= self.utc_offset - other.utc_offset
        return abs(apart.total_seconds()) / 3600


def moment_of(dataset: Any) -> Moment | None:
    """Return when a DICOM image was taken: its acquisition, or else its series or study; None if it does not say."""
    for what in ("Acquisition", "Series", "Study"):
        day = _parsed(str(dataset.get(f"{what}Date") or "")[:8], ("%Y%m%d",))
        if day is not None:
            digits = str(dataset.get(f"{what}Time") or "").split(".")[0]
            # Minutes and seconds may be missing.
            clock = _parsed(digits.ljust(6, "0"), ("%H%M%S",)) if digits else None
            return Moment(day.date(), clock.time() if clock else None)
    return None


def parse_moment(text: str) -> Moment:
    """Parse a date and, if it follows after `T` or a blank, the time with its UTC offset (ISO 8601, any fraction).

    Dates are 2024-05-31, 2024/05/31, 20240531, 31.05.2024, 05/31/2024 or 31/05/2024. Raises ValueError with the reason
    for anything else, and for a date such as 05/06/2024, whose day and month could be swapped.
    """
    day_text, clock_text = [*re.split(r"[T\s]+", text.strip(), maxsplit=1), ""][:2]
    day = _day(day_text)
    if not clock_text:
        return Moment(day)
    try:
        clock = time.fromisoformat(re.sub(r"\s", "", clock_text))
    except ValueError:
        raise ValueError("expected a date; got something else") from None
    return Moment(day, clock.replace(tzinfo=None), clock.utcoffset())


def _day(text: str) -> date:
    if parsed := _parsed(text, DATES):
        return parsed.date()
    if slashed := SLASHED.fullmatch(text):
        first, second, year = map(int, slashed.groups())
        if max(first, second) <= MONTHS and first != second:
            raise ValueError("expected a date; got one whose day and month could be swapped")
        day, month = (first, second) if first > MONTHS else (second, first)
        try:
            return date(year, month, day)
        except ValueError:
            pass
    raise ValueError("expected a date; got something else")


def _parsed(text: str, formats: tuple[str, ...]) -> datetime | None:
    for form in formats:
        if len(text) != DIGITS.get(form, len(text)):
            continue
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
