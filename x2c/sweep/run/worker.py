"""A worker: one process that runs cells one after the other until none waits, so that imports are paid once."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from x2c.core import stopping
from x2c.core.checked import UnreadableError
from x2c.core.config import Config
from x2c.core.errors import reason_of
from x2c.core.lease import LeaseLost
from x2c.core.listening import Pruned, on_validation
from x2c.core.run import RunDirectory
from x2c.core.stopping import exit_code, install_signal_handlers, interruptible
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.queue.database import DatabaseAway
from x2c.sweep.queue.factory import open_queue
from x2c.sweep.queue.lease import Lease
from x2c.sweep.queue.queue import POLL_SECONDS, Queue
from x2c.sweep.queue.state import mark_waiting, record_failure
from x2c.sweep.run import distributed

Run = Callable[[Config], RunDirectory]


def work(plan: Plan, cells: Sequence[Cell], storage: str | None, supervisor: int | None = None) -> int:
    """Run waiting cells until there is none; return the exit code.

    With a supervisor's process id it stops when that process has ended, as if asked to.
    """
    install_signal_handlers()
    if supervisor is not None:
        threading.Thread(target=_stop_with, args=(supervisor,), daemon=True).start()
    # W&B reads it when a run begins; the engine knows nothing of sweeps.
    os.environ.setdefault("WANDB_RUN_GROUP", f"{plan.sweep.name}-{plan.scale}")
    queue: Queue | None = None
    try:
        queue = open_queue(plan, storage)
        # Imported here: it takes seconds, which a planner need not spend.
        from x2c.engine.experiment import run

        # Imported modules stay in memory: garbage collection after each cell need not scan them.
        gc.freeze()
        with interruptible():
            drain(queue, cells, run)
    except KeyboardInterrupt as stop:
        # If the database is unreachable, the next process finds the cell's worker dead.
        with contextlib.suppress(KeyboardInterrupt, SQLAlchemyError, OptunaError):
            if queue is not None:
                queue.release()
        _say(str(stop) or "stopped")
        return exit_code(stop)
    return 0


def drain(queue: Queue, cells: Sequence[Cell], run: Run) -> None:
    """Run the waiting ones of `cells`, one after the other. An error of a cell does not stop the next."""
    while True:
        # A library may have swallowed the request: a preempted job takes no new work.
        stopping.check()
        with queue.next(cells) as lease:
            if lease is None:
                _say("no cell waits")
                return
            pause = _run(queue, lease, run)
        gc.collect()
        rest(pause)


def rest(seconds: float) -> None:
    """Wait before the next cell, if one is to be retried."""
    if seconds:
        time.sleep(seconds)


def _run(queue: Queue, lease: Lease, run: Run) -> float:
    """Run a cell and record the outcome; return how long to wait before another, in seconds."""
    cell = lease.cell
    _say(f"{cell.title}: running as {cell.run_id}")
    try:
        with lease:
            return _attempt(queue, lease, run)
    except LeaseLost as lost:
        _say(str(lost))
        return 0.0


def _attempt(queue: Queue, lease: Lease, run: Run) -> float:
    cell, began = lease.cell, time.monotonic()
    try:
        with interruptible(), on_validation(lambda _step: queue.judge(lease)):
            made = distributed.run(cell) if cell.config.compute.processes > 1 else run(cell.config)
        if made.path.name != cell.run_id:
            raise RuntimeError(
                f"planned as {cell.run_id}, run as {made.path.name}: the code or the data changed meanwhile"
            )
        lease.check()
    except DatabaseAway:
        raise
    except LeaseLost as lost:
        if lost.lease is lease:
            raise
        return _after(lost, queue, lease)
    except Pruned as pruned:
        queue.prune(lease)
        _say(f"{cell.title}: pruned: {pruned}")
        return 0.0
    except KeyboardInterrupt:
        if cell.run.done:
            _finish(queue, lease, time.monotonic() - began)
        else:
            # The next process resumes it.
            queue.put_back(lease)
        raise
    except Exception as error:
        if not cell.run.done:
            return _after(error, queue, lease)
        _say(f"{cell.title}: done, and after its end: {reason_of(error)}")
    _finish(queue, lease, time.monotonic() - began)
    return 0.0


def _finish(queue: Queue, lease: Lease, seconds: float) -> None:
    """Record that a cell is done, with its value or why it has none: unusable score files do not make it undone."""
    value, name = queue.finish(lease), queue.plan.sweep.metric.name
    score = f", without {name}: {value}" if isinstance(value, UnreadableError) else f", {name} {value:.4g}"
    _say(f"{lease.cell.title}: done in {seconds:.0f} s{score}")


def _after(error: Exception, queue: Queue, lease: Lease) -> float:
    cell = lease.cell
    if isinstance(error, LeaseLost) or cell.run.held:
        # Another process ran it between our check and our start, or while this process was suspended.
        queue.put_back(lease)
        return POLL_SECONDS
    tries = lease.tries.after_error(error)
    # A full disk has no room for the error either: the queue and our log have.
    with contextlib.suppress(OSError):
        record_failure(cell, error)
    if tries is None:
        _say(f"{cell.title}: failed: {reason_of(error)}")
        queue.fail(lease)
        return 0.0
    pause = tries.pause_seconds()
    with contextlib.suppress(OSError):
        mark_waiting(cell, f"retry after {reason_of(error)}")
    _say(f"{cell.title}: retry in {pause:.0f} s or later: {reason_of(error)}")
    queue.put_back(lease, tries)
    return pause


def _stop_with(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    # If the log's disk is full, the work continues.
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%H:%M:%S')} [{os.getpid()}] {text}", flush=True)
