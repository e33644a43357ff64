"""Running a sweep from one terminal: prepare, start workers, watch them, show the results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from x2c.core import stopping
from x2c.core.stopping import install_signal_handlers
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.queue.factory import open_queue
from x2c.sweep.queue.pace import pause_after
from x2c.sweep.run.crew import Crew
from x2c.sweep.run.factory import kind_of
from x2c.sweep.show.tables import View

WATCH_SECONDS = 0.5


def run_sweep(
    plan: Plan,
    chosen: Sequence[Cell],
    storage: str | None,
    workers: int | None,
    arguments: Sequence[str],
    reports: Path | None,
) -> int:
    """Run the cells that are not done; return 0 if every cell of `chosen` is done, else 1.

    For a search, `chosen` are failed cells that are to be run again, besides the draws that are left.
    `arguments` are those with which a worker's command line makes the same plan. Tables and pictures go to `reports`;
    None: they are not made.
    """
    install_signal_handlers()
    began = time.time()
    kind = kind_of(plan)
    kind.announce(chosen)
    queue = open_queue(plan, storage, create=True)
    cells, size, devices = kind.prepare(queue, chosen, workers)
    if size:
        work(Crew(plan, cells, queue, storage, arguments, size, devices), View(plan, cells, size, began))
    return kind.conclude(queue, chosen, reports, began)


def work(crew: Crew, view: View) -> None:
    """Start the workers and watch them until they end; if this process is asked to stop, ask them to."""
    with view:
        try:
            crew.start()
            watch(crew, view)
        except KeyboardInterrupt:
            view.note("stopping the workers")
            crew.stop()
            raise
        finally:
            crew.stop()


def watch(crew: Crew, view: View) -> None:
    """Replace workers and refresh the view until every cell has ended, on this or another machine."""
    while True:
        began = time.monotonic()
        stopping.check()
        alive = crew.tend(view.note)
        view.cells = crew.cells
        view.update()
        if not alive and not any(shot.state == "running" for shot in view.shots.values()):
            return
        time.sleep(pause_after(began, WATCH_SECONDS))
