"""The clock by which leases end: no one sets it, and it goes on while the machine is suspended."""

from __future__ import annotations

import time

# Linux's monotonic clock stands still during suspend; that of macOS, which has no BOOTTIME, does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds since some moment in the past, those in which this machine was suspended among them."""
    return time.clock_gettime(_CLOCK)
