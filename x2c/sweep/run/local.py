"""Running a sweep from one terminal: plan, prepare, start workers, watch them, show the results."""

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
    """Run the cells that are not done; returns 0 when every cell of `chosen` is done, else 1.

    `arguments` are those by which a worker's command line makes the same plan. Tables and pictures go to `reports`;
    None: there are none.
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
    # Cells that are done go along: a trial that says otherwise, of a worker killed at its last step, is set right.
    opened = queue.enqueue([cell for cell in chosen if cell.run_id not in unready])
    size = min(size, len(opened))
    if size:
        work(Crew(plan, opened, queue, storage, arguments, size, devices), View(plan, chosen, size, began))
    return conclude(plan, chosen, reports, began)


def work(crew: Crew, view: View) -> None:
    """Start the workers and watch them to the end; asks them to stop when this process is."""
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
    """Make once what the cells share; returns the run ids of those for which it did not work, which are marked failed.

    Raises UserError when it works for none and the user can mend it.
    """
    # Imported here: it takes seconds, and a finished sweep needs none of it.
    from x2c.engine.experiment import prepare, prepare_patients

    say("preparing what the cells share: data, frozen networks, latents, baselines")
    began = time.monotonic()
    # Seeds are no part of what is prepared, but which stages are still to be trained is.
    alike: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault((*cell.recipe, *(stage.name for stage in open_stages(cell))), []).append(cell)
    configs = [first.config for first, *_ in alike.values()]
    # What stands in the way of one cell is told when it is its turn.
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
    """Keep the workers going and the view fresh until every cell has ended here or elsewhere."""
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
    """Show the tables of finished runs unless there is no folder for them, the failures and the sum; returns the exit code."""
    shots = snapshots(chosen)
    states = [shot.state for shot in shots.values()]
    if reports is not None and "done" in states:
        # Imported here: plan, status and --help need none of it.
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
    out.print("the same command goes on with what is not done", highlight=False)
    return 1


def _attempt(prepare: Callable[[Config], None], config: Config) -> Exception | None:
    try:
        with interruptible():
            prepare(config)
    except Exception as error:
        return error
    return None
