"""A worker: one process that runs cell after cell until none waits, so that imports are paid once."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from x2c.core.config import Config
from x2c.core.run import RunDirectory
from x2c.core.stopping import exit_code, listen
from x2c.sweep.plan import Cell, Plan
from x2c.sweep.queue import POLL_SECONDS, Lease, Queue
from x2c.sweep.state import is_locked, record_failure

Run = Callable[[Config], RunDirectory]


def work(plan: Plan, cells: Sequence[Cell], storage: str | None, supervisor: int | None = None) -> int:
    """Run waiting cells until there is none; returns the exit code.

    With a supervisor's process id it stops when that process is gone, as if asked to.
    """
    listen()
    if supervisor is not None:
        threading.Thread(target=_stop_with, args=(supervisor,), daemon=True).start()
    # W&B reads it when a run begins; the engine knows nothing of sweeps.
    os.environ.setdefault("WANDB_RUN_GROUP", f"{plan.sweep.name}-{plan.scale}")
    try:
        queue = Queue(plan, storage)
        # Imported here: it takes seconds, which a worker pays once and a planner never.
        from x2c.engine.experiment import run

        drain(queue, cells, run)
    except KeyboardInterrupt as stop:
        _say(str(stop) or "stopped")
        return exit_code(stop)
    return 0


def drain(queue: Queue, cells: Sequence[Cell], run: Run) -> None:
    """Run the waiting ones of `cells`, one after the other. After a cell's error comes the next."""
    while True:
        with queue.next(cells) as lease:
            if lease is None:
                _say("no cell waits")
                return
            _run(queue, lease, run)
        gc.collect()


def _run(queue: Queue, lease: Lease, run: Run) -> None:
    cell = lease.cell
    _say(f"{cell.title}: running as {cell.run_id}")
    began = time.monotonic()
    try:
        made = run(cell.config)
        if made.path.name != cell.run_id:
            raise RuntimeError(
                f"planned as {cell.run_id}, run as {made.path.name}: the code or the data changed meanwhile"
            )
        value = queue.finish(lease)
        score = "" if value is None else f", {queue.plan.sweep.metric.name} {value:.4g}"
        _say(f"{cell.title}: done in {time.monotonic() - began:.0f} s{score}")
    except Exception as error:
        if is_locked(cell.run.path / ".lock"):
            # Someone ran it by hand in the moment between our look and our start.
            queue.put_back(lease)
            time.sleep(POLL_SECONDS)
            return
        _say(f"{cell.title}: failed: {record_failure(cell, error)}")
        queue.fail(lease)
    except KeyboardInterrupt:
        # Whoever comes next goes on with it.
        queue.put_back(lease)
        raise


def _stop_with(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} [{os.getpid()}] {text}", flush=True)
