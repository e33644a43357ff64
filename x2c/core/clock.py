"""The clock for leases: it cannot be set, and it includes the time for which the machine is suspended."""

from __future__ import annotations

import time

# Linux's monotonic clock stands still during suspend; that of macOS, which has no BOOTTIME, does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return seconds since some moment in the past, including those in which this machine was suspended."""
    return time.clock_gettime(_CLOCK)
