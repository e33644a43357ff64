"""Running a sweep from one terminal: plan, prepare, start workers, watch them, show the results."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.files import is_locked
from x2c.core.machine import machine
from x2c.core.stopping import STOPPED, listen
from x2c.engine.identity import cohort_fingerprint
from x2c.sweep.devices import Device, crew_for, environment
from x2c.sweep.launch import worker_arguments, worker_environment
from x2c.sweep.plan import Cell, Plan
from x2c.sweep.queue import Queue
from x2c.sweep.state import claimed, read_claim, record_failure, snapshot
from x2c.sweep.view import View, clock, counts, failure_table, plan_table, snapshots, wide_console

WATCH_SECONDS = 0.5
STOP_SECONDS = 20.0
SETTLE_SECONDS = 5.0
"""Between two looks for cells whose workers, on whatever machine, are gone."""
MOST_CRASHES = 3
"""Workers that may end by themselves without having held a cell, one after the other, before no more are started."""
MOST_KILLED = 20
"""Workers that may be killed from outside, likewise."""


def run_sweep(
    plan: Plan,
    chosen: Sequence[Cell],
    storage: str | None,
    workers: int | None,
    arguments: Sequence[str],
    reports: Path,
) -> int:
    """Run the cells that are not done; returns 0 when every cell of `chosen` is done, else 1.

    `arguments` are those by which a worker's command line makes the same plan.
    """
    listen()
    began = time.time()
    out = wide_console()
    out.print(plan_table(plan, chosen, snapshots(chosen)))
    queue = Queue(plan, storage, create=True)
    todo = [cell for cell in chosen if snapshot(cell).state != "done"]
    size, devices = crew_for(workers, [cell.config.compute for cell in todo])
    ready = prepare_all(todo, out.print) if todo else []
    # Cells that are done go along: a trial that says otherwise, of a worker killed at its last step, is set right.
    opened = queue.enqueue([cell for cell in chosen if cell in ready or cell not in todo])
    size = min(size, len(opened))
    if size:
        crew = Crew(plan, opened, queue, storage, arguments, size, devices)
        with View(plan, chosen, size, began) as view:
            try:
                crew.start()
                watch(crew, view)
            except KeyboardInterrupt:
                view.note("stopping the workers")
                crew.stop()
                raise
            finally:
                crew.stop()
    return conclude(plan, chosen, reports, began)


def prepare_all(cells: Sequence[Cell], say: Callable[[str], None]) -> list[Cell]:
    """Make once what the cells share; returns those for which it worked, the others are marked failed.

    Raises UserError when it works for none and the user can mend it.
    """
    # Imported here: it takes seconds, and a finished sweep needs none of it.
    from x2c.engine.experiment import prepare

    say("preparing what the cells share: data, frozen networks, latents, baselines")
    began = time.monotonic()
    errors = {cell.run_id: _attempt(prepare, cell.config) for cell in cells}
    failed = {run: error for run, error in errors.items() if error is not None}
    first = next(iter(failed.values()), None)
    if len(failed) == len(cells) and isinstance(first, UserError):
        raise first
    for cell in cells:
        if error := failed.get(cell.run_id):
            with claimed(cell) as mine:
                if mine and not is_locked(cell.run.lock):
                    say(f"{cell.title}: failed: {record_failure(cell, error)}")
    say(f"prepared in {clock(time.monotonic() - began)}")
    return [cell for cell in cells if cell.run_id not in failed]


def watch(crew: Crew, view: View) -> None:
    """Keep the workers going and the view fresh until every cell has ended here or elsewhere."""
    while True:
        alive = crew.tend(view.note)
        view.update()
        if not alive and not any(shot.state == "running" for shot in view.shots.values()):
            return
        time.sleep(WATCH_SECONDS)


def conclude(plan: Plan, chosen: Sequence[Cell], reports: Path, began: float) -> int:
    """Show the tables of finished runs, the failures and the sum; returns the exit code."""
    shots = snapshots(chosen)
    states = [shot.state for shot in shots.values()]
    if "done" in states:
        # Imported here: plan, status and --help need none of it.
        from analysis import figures, tables

        fingerprint = cohort_fingerprint(plan.cells[0].config)
        where = ["--runs", str(plan.runs), "--out", str(reports), "--scale", plan.scale, "--data", fingerprint]
        where += ["--prefer", ",".join(cell.run_id for cell in plan.cells)]
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


@dataclass(frozen=True)
class Worker:
    """A worker process and where it writes."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


class Crew:
    """The worker processes of a sweep on this machine."""

    def __init__(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        queue: Queue,
        storage: str | None,
        arguments: Sequence[str],
        size: int,
        devices: Sequence[Device] = (),
    ) -> None:
        self.plan, self.cells, self.queue, self.size, self.devices = plan, cells, queue, size, devices
        worker = worker_arguments(plan, cells, storage, arguments)
        self.command = [sys.executable, "-m", "x2c.sweep", *worker, "--supervisor", str(os.getpid())]
        self.workers: dict[int, Worker] = {}
        self.crashes = self.killed = 0
        self.waiting, self.settled = len(cells), -math.inf

    def start(self) -> None:
        """Start all workers."""
        for number in range(1, self.size + 1):
            self.workers[number] = self._start(number)

    def tend(self, say: Callable[[str], None]) -> bool:
        """See after workers that ended, and after cells whose workers are gone; is any at work, or to be?"""
        ended = [number for number, worker in self.workers.items() if worker.process.poll() is not None]
        for number in ended:
            self._bury(number, say)
        if ended or time.monotonic() - self.settled > SETTLE_SECONDS:
            self.settled = time.monotonic()
            for line in self.queue.reclaim():
                say(line)
            self._replace()
        return bool(self.workers)

    def stop(self) -> None:
        """Ask the workers to stop, then make them."""
        alive = [worker.process for worker in self.workers.values() if worker.process.poll() is None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for process in alive:
                process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in alive:
                process.kill()
                process.wait()

    def _bury(self, number: int, say: Callable[[str], None]) -> None:
        worker = self.workers.pop(number)
        code = worker.process.returncode
        if code in (0, *STOPPED):
            return
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        if cell := self._held_by(worker.process.pid):
            say(f"worker {number} died ({cause}) at {cell.title}")
            return
        self.crashes += code > 0
        self.killed += code < 0
        say(f"worker {number} died ({cause}) without a cell: {worker.last_line()}  [{worker.log}]")

    def _replace(self) -> None:
        """Start workers for cells that wait, unless they seem to die whatever they are given."""
        before, self.waiting = self.waiting, self.queue.waiting(self.cells)
        if before != self.waiting:
            self.crashes = self.killed = 0
        free = [number for number in range(1, self.size + 1) if number not in self.workers]
        if self.crashes < MOST_CRASHES and self.killed < MOST_KILLED:
            for number in free[: self.waiting]:
                self.workers[number] = self._start(number)

    def _start(self, number: int) -> Worker:
        log = self.plan.runs / "logs" / f"{self.plan.sweep.name}-worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the supervisor alone, which asks the workers to stop.
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **worker_environment(), **environment(number - 1, self.devices)},
                start_new_session=True,
            )
        return Worker(process, log)

    def _held_by(self, pid: int) -> Cell | None:
        """The cell that a process had claimed and left unfinished."""
        worker = f"{machine()}:{pid}"
        for cell in self.cells:
            claim = read_claim(cell)
            if claim is not None and claim.worker == worker:
                status = cell.run.status()
                if status.get("state") == "running" or status.get("updated", 0.0) < claim.since:
                    return cell
        return None


def _attempt(prepare: Callable[[Config], None], config: Config) -> Exception | None:
    try:
        prepare(config)
    except Exception as error:
        return error
    return None
