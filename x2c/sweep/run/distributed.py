"""A cell that several processes train together: its worker starts, watches and stops them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

from x2c.core import fence, listening, stopping
from x2c.core.cli import as_option
from x2c.core.errors import UserError
from x2c.core.machine import CLAIM, WORKER, holder
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.core.stopping import Stopped
from x2c.sweep.plan.cells import Cell
from x2c.sweep.queue.state import claim_path
from x2c.sweep.run.processes import CHECKPOINT_SECONDS, worker_environment

LOOK_SECONDS = 0.2


class ProcessesFailed(RuntimeError):
    """The processes of a cell ended with an error; the message is their output."""


def run(cell: Cell) -> RunDirectory:
    """Train, sample and score a cell with `compute.processes` processes, as `x2c.engine.experiment.run` does with one.

    Raises UserError for errors that the user can fix, ProcessesFailed for all others; an interrupt of the worker
    stops them after a checkpoint.
    """
    before = cell.run.status().get("updated")
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *command(cell)],
        cwd=os.getcwd(),
        env={
            "OMP_NUM_THREADS": "1",
            **os.environ,
            **worker_environment(),
            WORKER: holder(),
            CLAIM: str(claim_path(cell).resolve()),
        },
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _watch(process, cell)
    except BaseException as error:
        # A process that lost its cell has nothing to save.
        asked = stopping.requested_signal() or isinstance(error, KeyboardInterrupt | listening.Pruned)
        _stop(process, signal.SIGTERM if asked else signal.SIGKILL)
        if isinstance(error, listening.Pruned):
            cell.run.report_end(error)
        raise
    if process.returncode:
        raise _failure(cell, process.returncode, before)
    return cell.run


def command(cell: Cell) -> list[str]:
    """Return the words after torchrun's own: the number of processes, and the training script for exactly this cell."""
    config = cell.config
    chosen = [f"--variant={config.variant}", f"--scale={config.scale}", f"--seed={config.seed}"]
    script = str(PROJECT / "x2c" / "train.py")
    chosen += [as_option(text) for text in cell.overrides]
    return [f"--nproc_per_node={config.compute.processes}", script, *chosen]


def _watch(process: subprocess.Popen[bytes], cell: Cell) -> None:
    """Wait until they end; notify listeners of validations, and raise if the worker lost the cell."""
    last_stage = cell.config.steps - cell.stages[-1].stage.steps
    validations = _Validations(cell.run.path / "metrics.jsonl")
    # Validations of an earlier process were reported when they were made.
    validations.more()
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        fence.check()
        for step in validations.more():
            if last_stage < step < cell.config.steps:
                listening.notify_validation(step)


class _Validations:
    """The validations in a run's log, which grows to many thousand lines: each line is read once."""

    def __init__(self, log: Path) -> None:
        self.log, self.offset = log, 0

    def more(self) -> list[int]:
        """Return steps of the validations since the last call."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size < self.offset:
            # A resume removes the lines after its checkpoint. A listener called again for a step decides as before.
            self.offset = 0
        if size == self.offset:
            return []
        with self.log.open("rb") as stream:
            stream.seek(self.offset)
            whole = list(takewhile(lambda line: line.endswith(b"}\n"), stream))
        self.offset += sum(map(len, whole))
        return [int(record["step"]) for record in map(json.loads, whole) if "validation_loss" in record]


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, number)
        process.wait(CHECKPOINT_SECONDS)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(cell: Cell, code: int, before: float | None) -> BaseException:
    status = cell.run.status()
    told = status.get("state") if status.get("updated") != before else None
    if told == "interrupted":
        # They were asked to stop before this worker was, or without it: a preempted job takes no new work.
        return Stopped(signal.SIGTERM)
    if told == "failed":
        reason = str(status.get("reason"))
        return (
            UserError(reason.removeprefix("UserError: ")) if reason.startswith("UserError") else ProcessesFailed(reason)
        )
    return ProcessesFailed(
        f"{cell.config.compute.processes} processes ended with code {code}; the worker's log has what they said"
    )
