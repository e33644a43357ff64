"""Running a search from one terminal: prepare, start workers that draw and run cells, show the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from x2c.core.stopping import listen
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import crew_for
from x2c.sweep.queue.search import SearchQueue
from x2c.sweep.run.crew import Crew
from x2c.sweep.run.local import work
from x2c.sweep.show.tables import View, clock, counts, failure_table, snapshots, wide_console


def run_search(
    plan: Plan,
    again: Sequence[Cell],
    storage: str | None,
    workers: int | None,
    arguments: Sequence[str],
    reports: Path | None,
) -> int:
    """Draw and run cells up to the sweep's run_cap; return 0 if none has failed.

    `again` are failed cells that are to be run again.
    """
    listen()
    began = time.time()
    queue = SearchQueue(plan, storage, create=True)
    queue.enqueue(again)
    left = queue.waiting(())
    size, devices = crew_for(workers, [config.compute for config in plan.configs], left)
    if size:
        prepare_search(plan, wide_console().print)
        cells = queue.cells()
        work(Crew(plan, cells, queue, storage, arguments, size, devices), View(plan, cells, size, began))
    return conclude_search(plan, queue, reports, began)


def prepare_search(plan: Plan, say: Callable[[str], None]) -> None:
    """Make once what all cells of a search share. Raises the first error."""
    from x2c.engine.experiment import prepare

    say("preparing what the cells share: data, frozen networks, latents, baselines")
    began = time.monotonic()
    for config in {config.variant: config for config in plan.configs}.values():
        prepare(config)
    say(f"prepared in {clock(time.monotonic() - began)}")


def conclude_search(plan: Plan, queue: SearchQueue, reports: Path | None, began: float) -> int:
    """Show the results of a search (if `reports` is a folder); return the exit code."""
    cells = queue.cells()
    shots = snapshots(cells)
    out = wide_console()
    if reports is not None:
        from x2c.sweep.show.search_report import report

        report(plan, queue, reports)
    states = [shot.state for shot in shots.values()]
    if "failed" in states:
        out.print(failure_table(cells, shots))
    out.print(f"{plan.sweep.name}: {counts(shots)}, in {clock(time.time() - began)}", highlight=False)
    if repeats := queue.repeats():
        drawn = f"{repeats} of {len(cells) + repeats} draws were of cells that had been drawn before"
        out.print(
            f"{drawn}: they count for run_cap, and were not run again; a smaller run_cap or more choices would avoid it",
            highlight=False,
        )
    left = queue.waiting(())
    if left:
        out.print(f"rerun the same command to resume; {left} are left", highlight=False)
    return 1 if left or "failed" in states else 0
