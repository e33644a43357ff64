"""Running a grid from one terminal: plan, prepare, start workers, watch them, show the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from x2c.core import stopping
from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.stopping import interruptible, listen
from x2c.engine.identity import cohort_fingerprint
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import crew_for
from x2c.sweep.queue.factory import open_queue
from x2c.sweep.queue.pace import pause_after
from x2c.sweep.queue.state import claimed, open_stages, record_failure
from x2c.sweep.run.crew import Crew
from x2c.sweep.show.tables import View, clock, counts, failure_table, plan_table, snapshots, wide_console

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

    `arguments` are those with which a worker's command line makes the same plan. Tables and pictures go to `reports`;
    None: they are not made.
    """
    listen()
    began = time.time()
    out = wide_console()
    out.print(plan_table(plan, chosen, snapshots(chosen)))
    queue = open_queue(plan, storage, create=True)
    shots = snapshots(chosen)
    todo = [cell for cell in chosen if shots[cell.run_id].state != "done"]
    size, devices = crew_for(workers, [cell.config.compute for cell in todo])
    unready = prepare_all(todo, out.print) if todo else set()
    # With finished cells: a trial that contradicts one, of a worker killed at its last step, is corrected.
    opened = queue.enqueue([cell for cell in chosen if cell.run_id not in unready])
    size = min(size, len(opened))
    if size:
        work(Crew(plan, opened, queue, storage, arguments, size, devices), View(plan, chosen, size, began))
    return conclude(plan, chosen, reports, began)


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
    if "failed" in states:
        out.print(failure_table(chosen, shots))
    out.print(f"{plan.sweep.name}: {counts(shots)}, in {clock(time.time() - began)}", highlight=False)
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
