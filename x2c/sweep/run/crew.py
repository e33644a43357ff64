"""The worker processes of a sweep on this machine."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from x2c.core.machine import machine
from x2c.core.run import UNREADABLE
from x2c.core.stopping import STOPPED
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import Device, environment
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import read_claim
from x2c.sweep.run.processes import stop_all, storage_environment, worker_arguments, worker_environment

SETTLE_SECONDS = 5.0
"""Seconds between two checks for cells of dead workers, on any machine."""
MOST_CRASHES = 3
"""Number of times that workers may end by themselves without a cell before no more are started. Ends before new ones
are started count as one: a full disk ends all of them at once."""
PAUSE_SECONDS = 1.5
"""Seconds before a new worker after such an end, doubled with each: a full disk may be temporary."""
MOST_KILLED = 20
"""Number of times that workers without a cell may be killed from outside before no more are started."""


@dataclass(frozen=True)
class Worker:
    """A worker process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        """Return the last line of its log."""
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
        worker = worker_arguments(plan, cells, arguments)
        self.command = [sys.executable, "-m", "x2c.sweep", *worker, "--supervisor", str(os.getpid())]
        self.storage = storage_environment(storage)
        # Workers give up on a database that stays unreachable; the supervisor waits for it without limit.
        queue.patience_seconds = math.inf
        self.workers: dict[int, Worker] = {}
        self.crashes = self.killed = 0
        self.ended = 0
        self.waiting, self.settled, self.again = 0, -math.inf, -math.inf

    def start(self) -> None:
        """Start all workers."""
        for number in range(1, self.size + 1):
            self.workers[number] = self._start(number)

    def tend(self, say: Callable[[str], None]) -> bool:
        """Replace workers that ended and reclaim cells of dead ones; return whether any worker is left or to come."""
        ended = [number for number, worker in self.workers.items() if worker.process.poll() is not None]
        for number in ended:
            self._reap(number, say)
        if ended or time.monotonic() - self.settled > SETTLE_SECONDS:
            self.settled = time.monotonic()
            for line in self.queue.reclaim(self.cells):
                say(line)
            self.cells = self.queue.current(self.cells)
            self._replace()
        return bool(self.workers) or (self.waiting > 0 and self._can_restart)

    def stop(self) -> None:
        """Ask the workers to stop, then kill those that do not."""
        stop_all([worker.process for worker in self.workers.values()])

    def _reap(self, number: int, say: Callable[[str], None]) -> None:
        worker = self.workers.pop(number)
        code = worker.process.returncode
        if code in (0, *STOPPED):
            return
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        if cell := self._cell_of(worker.process.pid):
            say(f"worker {number} died ({cause}) at {cell.title}")
            return
        if code > 0 and time.monotonic() >= self.again:
            self.crashes += 1
            self.again = time.monotonic() + PAUSE_SECONDS * 2**self.crashes
        self.killed += code < 0
        say(f"worker {number} died ({cause}) without a cell: {worker.last_line()}  [{worker.log}]")

    def _replace(self) -> None:
        """Start workers for waiting cells, unless workers seem to die whatever they are given."""
        before = self.waiting, self.ended
        self.waiting, self.ended = self.queue.waiting(self.cells), self.queue.ended()
        if before != (self.waiting, self.ended):
            self.crashes = self.killed = 0
        free = [number for number in range(1, self.size + 1) if number not in self.workers]
        if self._can_restart and time.monotonic() >= self.again:
            for number in free[: self.waiting]:
                self.workers[number] = self._start(number)

    @property
    def _can_restart(self) -> bool:
        """Return whether starting workers is worth it: not after too many of them died without a cell."""
        return self.crashes < MOST_CRASHES and self.killed < MOST_KILLED

    def _start(self, number: int) -> Worker:
        # Only cells of this user and this machine.
        name = f"{self.plan.sweep.name}-{socket.gethostname()}-{os.getpid()}-worker-{number}.log"
        log = self.plan.runs / "logs" / name
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches only the supervisor, which asks the workers to stop.
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={
                    **os.environ,
                    **worker_environment(),
                    **self.storage,
                    **environment(number - 1, self.devices, self.plan.compute.processes),
                },
                start_new_session=True,
            )
        return Worker(process, log)

    def _cell_of(self, pid: int) -> Cell | None:
        """Return the cell that a process had claimed and left unfinished."""
        worker = f"{machine()}:{pid}"
        for cell in self.cells:
            claim = read_claim(cell)
            if claim is not None and claim.worker == worker:
                status = cell.run.status()
                unfinished = status.get("state") in ("running", "interrupted", UNREADABLE)
                if unfinished or not claim.reported(status):
                    return cell
        return None
