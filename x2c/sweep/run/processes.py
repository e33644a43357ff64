"""Start and stop of worker processes, on this machine or on another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from x2c.core.machine import STORAGE
from x2c.core.script import PROJECT, idle_environment
from x2c.sweep.plan.cells import Cell, Plan

CHECKPOINT_SECONDS = 60.0
"""Seconds that a worker gives the processes of its cell for a checkpoint before it kills them."""
STOP_SECONDS = CHECKPOINT_SECONDS + 15.0
"""Seconds after which a process that was asked to stop is killed: it may wait for its own child processes."""


def worker_arguments(plan: Plan, cells: Sequence[Cell], arguments: Sequence[str]) -> list[str]:
    """Return the words after `python -m x2c.sweep` for a worker of these cells; `arguments` make the same plan."""
    return ["worker", *arguments, *plan.worker_options(cells)]


def worker_environment() -> dict[str, str]:
    """Return the environment in which a worker can import this x2c, writes its output at once, and idles without spinning."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1", **idle_environment()}


def storage_environment(storage: str | None) -> dict[str, str]:
    """Return the environment that passes the database of the queue to a worker."""
    return {} if storage is None else {STORAGE: storage}


def stop_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to stop, then kill those that do not."""
    alive = [process for process in processes if process.poll() is None]
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
