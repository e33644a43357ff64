"""The time since a worker's last heartbeat, by the clock of the process that watches it.

Wall clocks differ between machines, and are set: by hand, by a time server, by summer time. Here a worker's silence
is the time for which this process saw no new heartbeat. A lease that may still be held is never taken on the word of
another clock: its holder counts at least the true time, this process at most that.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

DOUBT = 1 / 3
"""Fraction of a lease for which a heartbeat is watched before its worker counts as dead, however old another clock says
it is: two heartbeats of a living worker."""


class Silence:
    """The silence of workers, in seconds of this process's clock while the machine is awake."""

    def __init__(self, lease_seconds: float) -> None:
        self._most_seconds = lease_seconds * (1 - DOUBT)
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def seconds(self, worker: Hashable, heartbeat: Hashable, age_seconds: float) -> float:
        """Seconds since the worker's last heartbeat; a heartbeat new here has another clock's `age_seconds`."""
        now = time.monotonic()
        if worker not in self._seen or self._seen[worker][0] != heartbeat:
            self._seen[worker] = heartbeat, now - min(max(age_seconds, 0.0), self._most_seconds)
        return now - self._seen[worker][1]
