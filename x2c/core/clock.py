"""The clock by which leases end."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds on a clock that no one sets and that, on Linux, goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)
