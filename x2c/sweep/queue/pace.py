"""Many cells are looked at, and written down, at a pace that leaves the machine and the queue to those who work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

TURN_SECONDS = 0.1
"""Longer than those who wait for a lock sleep between two tries."""
PAUSE_PER_LOOK = 10.0
MOST_PAUSE_SECONDS = 30.0
Item = TypeVar("Item")


def in_turns(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """So many at a time, with a pause in between in which others who wait for the same lock have their turn."""
    for start in range(0, len(items), size):
        if start:
            time.sleep(TURN_SECONDS)
        yield items[start : start + size]


def pause_after(began: float, least_seconds: float) -> float:
    """Seconds until the next look, after one since `began` by the monotonic clock: the longer, the more there is to see."""
    took = time.monotonic() - began
    return min(max(least_seconds, PAUSE_PER_LOOK * took), max(least_seconds, MOST_PAUSE_SECONDS))
