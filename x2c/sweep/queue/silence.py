"""How long a worker has not been heard of, by the clock of whoever asks.

Wall clocks differ between machines, and are set: by hand, by a time server, by summer time. Here a worker's silence is
the time for which its heartbeat did not change before one's own eyes. A lease that a worker may have kept is never
taken by the word of another clock: its holder counts at least the true time, this process at most that.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

DOUBT = 1 / 3
"""Part of a lease for which a heartbeat is watched before its worker is given up, however old it is said to be: two
heartbeats of a living worker."""


class Silence:
    """The silence of workers, by this process's clock of the time for which the machine was awake."""

    def __init__(self, lease_seconds: float) -> None:
        self._most_seconds = lease_seconds * (1 - DOUBT)
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def seconds(self, worker: Hashable, heartbeat: Hashable, age_seconds: float) -> float:
        """Seconds for which a worker was silent; `age_seconds` is what another clock says, where its heartbeat is new here."""
        now = time.monotonic()
        if worker not in self._seen or self._seen[worker][0] != heartbeat:
            self._seen[worker] = heartbeat, now - min(max(age_seconds, 0.0), self._most_seconds)
        return now - self._seen[worker][1]
