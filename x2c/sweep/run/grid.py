"""A grid: every cell is known before anything is run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.stopping import interruptible
from x2c.engine.identity import cohort_fingerprint
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import crew_for, default_workers
from x2c.sweep.queue.state import claimed, open_stages, record_failure
from x2c.sweep.run.kinds import Prepared, Shown
from x2c.sweep.show import status
from x2c.sweep.show.tables import clock, outcome, plan_table, snapshots, wide_console

if TYPE_CHECKING:
    from x2c.sweep.queue.queue import Queue


@dataclass(frozen=True)
class Grid:
    """The kind of a sweep with method `grid`."""

    plan: Plan

    def show_plan(self, shown: Shown) -> None:
        """Print the cells and their cost, and lock them if requested."""
        plan = self.plan
        if shown.lock:
            from x2c.sweep.plan.preregister import lock

            made, new = lock(plan)
            said = f"locked {len(made.cells)} of {len(plan.cells)} cells, those that had not started, in {made.path}"
            was = f"{plan.sweep.name} was locked on {made.date}: {len(made.cells)} cells, in {made.path}"
            # The output that follows may be JSON, which stands alone.
            print(said if new else was, file=sys.stderr if shown.json else sys.stdout)
        costs = None
        if shown.cost:
            from x2c.sweep.show.cost import estimate

            costs = estimate(plan, shown.workers or default_workers(plan.compute))
        if shown.json:
            cost = {"cost": None if costs is None else asdict(costs)}
            print(json.dumps({**status.as_json(plan, status.gather(plan)), **cost}, indent=2))
            return
        wide_console().print(plan_table(plan, plan.cells, snapshots(plan.cells), costs))

    def with_cells(self, storage: str | None) -> Plan:
        """Return the plan, which has them all."""
        return self.plan

    def table(self, chosen: Sequence[Cell]) -> RenderableType:
        """Return a table of the cells."""
        return plan_table(self.plan, chosen, snapshots(chosen))

    def announce(self, chosen: Sequence[Cell]) -> None:
        """Print the table of the cells."""
        wide_console().print(self.table(chosen))

    def prepare(self, queue: Queue, chosen: Sequence[Cell], workers: int | None) -> Prepared:
        """Make what the cells share, and enqueue those for which that did not fail."""
        shots = snapshots(chosen)
        todo = [cell for cell in chosen if shots[cell.run_id].state != "done"]
        size, devices = crew_for(workers, [cell.config.compute for cell in todo])
        unready = prepare_all(todo, wide_console().print) if todo else set()
        # With finished cells: a trial that contradicts one, of a worker killed at its last step, is corrected.
        opened = queue.enqueue([cell for cell in chosen if cell.run_id not in unready])
        return Prepared(opened, min(size, len(opened)), devices)

    def conclude(self, queue: Queue, chosen: Sequence[Cell], reports: Path | None, began: float) -> int:
        """Show the tables of the finished runs; return 0 if every chosen cell is done, else 1."""
        return conclude(self.plan, chosen, reports, began)


def prepare_all(cells: Sequence[Cell], say: Callable[[str], None]) -> set[str]:
    """Make once what the cells share; return the run ids of those for which that failed, which are marked failed.

    Raises UserError if it fails for all of them and the user can fix it.
    """
    # Imported here: it takes seconds, and a finished sweep does not need it.
    from x2c.engine.experiment import prepare, prepare_patients

    say("preparing what the cells share: data, frozen networks, latents, baselines")
    began = time.monotonic()
    # Preparation does not depend on seeds, but on the stages that are still to be trained.
    alike: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault((*cell.recipe, *(stage.name for stage in open_stages(cell))), []).append(cell)
    configs = [first.config for first, *_ in alike.values()]
    # An error of a single cell is reported when the cell is run.
    with suppress(Exception), interruptible():
        prepare_patients(configs)
    errors = [_attempt(prepare, config) for config in configs]
    failed = {
        cell.run_id: error
        for group, error in zip(alike.values(), errors, strict=True)
        for cell in group
        if error is not None
    }
    first = next(iter(failed.values()), None)
    if len(failed) == len(cells) and isinstance(first, UserError | PermissionError):
        raise first
    for cell in cells:
        if error := failed.get(cell.run_id):
            with claimed(cell) as mine:
                if mine and not cell.run.held:
                    say(f"{cell.title}: failed: {record_failure(cell, error)}")
    say(f"prepared in {clock(time.monotonic() - began)}")
    return set(failed)


def conclude(plan: Plan, chosen: Sequence[Cell], reports: Path | None, began: float) -> int:
    """Show the tables of finished runs (if `reports` is a folder), the failures and the sum; return the exit code."""
    shots = snapshots(chosen)
    states = [shot.state for shot in shots.values()]
    if reports is not None and "done" in states:
        # Imported here: plan, status and --help do not need it.
        from analysis import figures, tables

        fingerprint = cohort_fingerprint(plan.cells[0].config)
        where = ["--runs", str(plan.runs), "--out", str(reports), "--scale", plan.scale, "--data", fingerprint]
        where += ["--only", ",".join(cell.run_id for cell in plan.cells)]
        for program in (tables, figures):
            program.main(where)
    out = wide_console()
    for part in outcome(plan, chosen, shots, time.time() - began):
        out.print(part)
    if set(states) <= {"done"}:
        return 0
    out.print("rerun the same command to resume", highlight=False)
    return 1


def _attempt(prepare: Callable[[Config], None], config: Config) -> Exception | None:
    try:
        with interruptible():
            prepare(config)
    except Exception as error:
        return error
    return None
