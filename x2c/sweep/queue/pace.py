"""Pauses in work on many cells, so that the machine and the queue stay usable for the workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

TURN_SECONDS = 0.1
"""Longer than the interval at which processes that wait for a lock try again, in seconds."""
PAUSE_PER_LOOK = 10.0
MOST_PAUSE_SECONDS = 30.0
Item = TypeVar("Item")


def in_turns(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `size` items at a time, with pauses in which other processes can get the lock."""
    for start in range(0, len(items), size):
        if start:
            time.sleep(TURN_SECONDS)
        yield items[start : start + size]


def pause_after(began: float, least_seconds: float) -> float:
    """Return the seconds until the next look; the longer the last look (since `began`, monotonic clock), the longer."""
    took = time.monotonic() - began
    return min(max(least_seconds, PAUSE_PER_LOOK * took), max(least_seconds, MOST_PAUSE_SECONDS))
