"""A search: its cells are drawn by the workers, given the results of earlier ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from x2c.core.errors import UserError
from x2c.sweep.plan.cells import Cell, Plan, SearchPlan
from x2c.sweep.plan.devices import crew_for
from x2c.sweep.run.kinds import Prepared, Shown
from x2c.sweep.show.tables import clock, outcome, snapshots, space_table, wide_console

if TYPE_CHECKING:
    from x2c.sweep.queue.queue import Queue


@dataclass(frozen=True)
class Search:
    """The kind of a sweep with method `random` or `bayes`. The chosen cells are failed ones that are run again."""

    plan: SearchPlan

    def show_plan(self, shown: Shown) -> None:
        """Print the ranges. Raises UserError for --lock and --json."""
        for option in ("lock", "json"):
            if getattr(shown, option):
                raise UserError(
                    f"--{option}: applies to grids only; a search draws its cells at run time; leave it out"
                )
        wide_console().print(self.table(()))

    def with_cells(self, storage: str | None) -> Plan:
        """Return the plan with the cells drawn so far. Raises UserError if the search was never run."""
        from x2c.sweep.queue.factory import open_queue

        return replace(self.plan, cells=open_queue(self.plan, storage).cells())

    def table(self, chosen: Sequence[Cell]) -> RenderableType:
        """Return a table of the ranges."""
        return space_table(self.plan)

    def announce(self, chosen: Sequence[Cell]) -> None:
        """Print nothing: no cell is known yet."""

    def prepare(self, queue: Queue, chosen: Sequence[Cell], workers: int | None) -> Prepared:
        """Enqueue the failed cells, and make what all cells share."""
        queue.enqueue(chosen)
        left = queue.waiting(())
        size, devices = crew_for(workers, [config.compute for config in self.plan.configs], left)
        if size:
            prepare_search(self.plan, wide_console().print)
        return Prepared(queue.cells(), size, devices)

    def conclude(self, queue: Queue, chosen: Sequence[Cell], reports: Path | None, began: float) -> int:
        """Show the results; return 0 if no draw is left and no cell has failed, else 1."""
        cells = queue.cells()
        shots = snapshots(cells)
        if reports is not None:
            from x2c.sweep.show.search_report import report

            report(self.plan, queue, reports)
        out = wide_console()
        for part in outcome(self.plan, cells, shots, time.time() - began):
            out.print(part)
        if repeats := queue.repeats():
            drawn = f"{repeats} of {len(cells) + repeats} draws were of cells that had been drawn before"
            out.print(
                f"{drawn}: they count for run_cap, and were not run again; a smaller run_cap or more choices would "
                "avoid it",
                highlight=False,
            )
        left = queue.waiting(())
        if left:
            out.print(f"rerun the same command to resume; {left} are left", highlight=False)
        return 1 if left or any(shot.state == "failed" for shot in shots.values()) else 0


def prepare_search(plan: Plan, say: Callable[[str], None]) -> None:
    """Make once what all cells of a search share. Raises the first error."""
    from x2c.engine.experiment import prepare

    say("preparing what the cells share: data, frozen networks, latents, baselines")
    began = time.monotonic()
    for config in {config.variant: config for config in plan.configs}.values():
        prepare(config)
    say(f"prepared in {clock(time.monotonic() - began)}")
