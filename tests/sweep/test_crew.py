"""The workers of this machine: when no more of them are started."""

from __future__ import annotations

import pytest

from x2c.sweep.run import crew
from x2c.sweep.run.crew import MOST_CRASHES, Crew

SIZE = 2 * MOST_CRASHES


class Waiting:
    """A queue whose cells nobody ever takes."""

    def reclaim(self, cells):
        return []

    def waiting(self, cells):
        return len(cells)

    def ended(self):
        return 0


@pytest.fixture
def crashing(make_plan, monkeypatch):
    """A crew of which every worker ends by itself, and the clock it looks at."""

    class Clock:
        now = 0.0

    plan = make_plan()
    monkeypatch.setattr(crew.time, "monotonic", lambda: Clock.now)
    workers = Crew(plan, plan.cells * SIZE, Waiting(), None, [], SIZE)
    workers.waiting = len(workers.cells)
    workers.command = ["/bin/sh", "-c", "echo no space left >&2; exit 1"]
    return workers, Clock


def end_all(workers):
    """Wait until the running workers have ended, then see after them; returns what is said and whether there is hope."""
    for worker in workers.workers.values():
        worker.process.wait(10)
    said = []
    return said, workers.tend(said.append)


def test_an_outage_that_ends_all_workers_at_once_is_one_crash(crashing):
    workers, clock = crashing
    workers.start()
    for outage in range(1, MOST_CRASHES):
        said, hope = end_all(workers)
        assert len(said) == SIZE and all("no space left" in line for line in said)
        assert hope and workers.crashes == outage and not workers.workers, "new ones are started after a pause"
        clock.now += max(crew.PAUSE_SECONDS * 2**outage, crew.SETTLE_SECONDS) + 0.1
        workers.tend(said.append)
        assert len(workers.workers) == SIZE
    _, hope = end_all(workers)
    assert not hope
