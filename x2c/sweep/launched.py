"""A cell that several processes train together: started by its worker, watched by it, and stopped with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from x2c.core import fence, progress
from x2c.core.errors import UserError
from x2c.core.machine import CLAIM, WORKER, holder
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.core.stopping import STOPPED
from x2c.sweep.launch import worker_environment
from x2c.sweep.plan import Cell
from x2c.sweep.state import claim_path

LOOK_SECONDS = 0.2
STOP_SECONDS = 60.0
"""For a checkpoint, before what was asked to stop is made to."""


class ProcessesFailed(RuntimeError):
    """The processes of a cell ended with an error; the message is what they said."""


def run(cell: Cell) -> RunDirectory:
    """Train, sample and score a cell by `compute.processes` processes, as `x2c.engine.experiment.run` does by one.

    Raises UserError for what the user can mend, ProcessesFailed for everything else; what interrupts the worker stops
    them after a checkpoint.
    """
    began = time.time()
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
        # What lost its cell has nothing to save.
        asked = isinstance(error, KeyboardInterrupt | progress.Pruned)
        _stop(process, signal.SIGTERM if asked else signal.SIGKILL)
        if isinstance(error, progress.Pruned):
            status = cell.run.status()
            place = str(status.get("phase", "train")), status.get("step", 0), status.get("steps", 0)
            cell.run.report("pruned", *place, reason=f"Pruned: {error}")
        raise
    if process.returncode:
        raise _failure(cell, process.returncode, began)
    return cell.run


def command(cell: Cell) -> list[str]:
    """The words after torchrun's own: as many processes, and the training script on exactly this cell."""
    config = cell.config
    chosen = [f"--variant={config.variant}", f"--scale={config.scale}", f"--seed={config.seed}"]
    script = str(PROJECT / "x2c" / "train.py")
    chosen += [_option(text) for text in cell.overrides]
    return [f"--nproc_per_node={config.compute.processes}", script, *chosen]


def _option(override: str) -> str:
    """An override as an option of the script; the data set's is a name, not a value in YAML."""
    key, _, value = override.partition("=")
    return f"--data={json.loads(value)}" if key == "data" and value.startswith('"') else f"--{override}"


def _watch(process: subprocess.Popen[bytes], cell: Cell) -> None:
    """Until they end; tells listeners of validations, and raises where the cell is another's by now."""
    last_stage = cell.config.steps - cell.stages[-1].stage.steps
    told = len(cell.run.logged("validation_loss"))
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        fence.ask()
        seen = cell.run.logged("validation_loss")
        for step, _ in seen[told:]:
            if last_stage < step < cell.config.steps:
                progress.tell(step)
        told = len(seen)


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, number)
        process.wait(STOP_SECONDS)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(cell: Cell, code: int, began: float) -> Exception:
    status = cell.run.status()
    if status.get("state") == "failed" and status.get("updated", 0.0) >= began:
        reason = str(status.get("reason"))
        return (
            UserError(reason.removeprefix("UserError: ")) if reason.startswith("UserError") else ProcessesFailed(reason)
        )
    how = "were told to stop" if code in STOPPED else f"ended with code {code}"
    return ProcessesFailed(f"{cell.config.compute.processes} processes {how}; the worker's log has what they said")
