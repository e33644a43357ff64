"""The state of a cell: its run directory is the truth, and a claim names the worker that has it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from x2c.core import file_lease
from x2c.core.checked import UnreadableError, checked, read_tree
from x2c.core.errors import reason_of
from x2c.core.file_lease import seems_held
from x2c.core.files import break_lock, is_locked, locked
from x2c.core.machine import holder, machine
from x2c.core.run import UNREADABLE
from x2c.engine.identity import PlannedStage
from x2c.sweep.plan.cells import Cell
from x2c.sweep.queue.silence import Silence

TAIL_LINES = 20
CLAIMS = ".claims"
"""Name of the folder of claims, beside the runs."""
Line = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
CellState = Literal["done", "failed", "running", "interrupted", "unreadable", "to do", "pruned"]
"""`unreadable` is a cell whose status.json cannot be used: it is run again, from its newest checkpoint."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a cell at one moment."""

    state: CellState
    phase: str = ""
    step: int = 0
    steps: int = 0
    reason: str | None = None
    seconds_left: float | None = None
    """Seconds left of the phase; None if unknown."""
    seconds: float | None = None
    """Seconds spent on it by its latest worker; None if unknown."""
    updated: float = 0.0
    """Unix time of the run's last report, in seconds."""
    claim: Claim | None = None
    """Claim of its latest worker; None if there was none."""
    silence: float | None = None
    """Seconds since that worker's last heartbeat, while it works; else None."""


@pydantic_dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False, extra="ignore"))
class Claim:
    """The worker that took a cell, and when. The modification time of its file is the worker's last heartbeat."""

    host: Line
    pid: Annotated[int, Field(ge=0, le=2**31)]
    since: Annotated[float, Field(ge=0, le=1e11)]
    attempts: Annotated[int, Field(ge=0, le=10**6)] = 1
    """Number of times the cell was taken, this one included."""
    worker: Line = ""
    """`<machine>:<process id>` of the worker, as in locks."""
    log: Line = ""
    """Log file of the worker; empty for a terminal."""
    before: float = 0.0
    """The run's `updated` when the cell was taken, Unix time in seconds."""

    def reported(self, status: dict[str, Any]) -> bool:
        """Whether a run's status was written since the cell was taken: its time then differs, whatever the clocks."""
        return float(status.get("updated", 0.0)) != self.before


def snapshot(cell: Cell) -> Snapshot:
    """Read a cell's state."""
    claim = read_claim(cell)
    # Leases first: a run that ends between the two reads then counts as ended, not as interrupted.
    silence = heartbeat_age(cell, claim)
    alive = silence is not None or seems_held(cell.run.lease)
    status = cell.run.status()
    updated: float = status.get("updated", 0.0)
    if claim is not None and silence is not None and not claim.reported(status):
        took = max(0.0, time.time() - claim.since)
        return Snapshot("running", "starting", seconds=took, updated=updated, claim=claim, silence=silence)
    if not status:
        return Snapshot("running" if alive else "to do", claim=claim, silence=silence)
    state: CellState = status["state"]
    if alive and state in ("interrupted", UNREADABLE):
        # The process that resumes it has not reported yet.
        state = "running"
    elif state == "running" and not alive:
        state = "interrupted"
    end = time.time() if state == "running" else updated
    return Snapshot(
        state,
        status["phase"],
        status["step"],
        status["steps"],
        status["reason"],
        status["seconds_left"] if state == "running" else None,
        end - claim.since if claim is not None and end > claim.since else None,
        updated,
        claim,
        silence,
    )


def begun(cells: Sequence[Cell]) -> set[str]:
    """Return names of the runs and stages, those of these cells included, that have a folder or a claim.

    Lists three folders, however many cells there are.
    """
    found: set[str] = set()
    for runs in {Path(cell.config.compute.runs) for cell in cells}:
        for folder in (runs, runs / "stages", runs / CLAIMS):
            with contextlib.suppress(FileNotFoundError):
                found.update(os.listdir(folder))
    return found


@contextmanager
def claimed(cell: Cell) -> Iterator[bool]:
    """Claim a cell for this process; yields False at once if another holds it.

    The kernel releases the claim when the process ends, however it ends; the file's content stays.
    """
    path = claim_path(cell)
    with locked(path, patience_seconds=0) as mine:
        if mine:
            before = read_claim(cell)
            attempts = before.attempts + 1 if before else 1
            updated = float(cell.run.status().get("updated", 0.0))
            claim = Claim(socket.gethostname(), os.getpid(), time.time(), attempts, holder(), _log(), updated)
            path.write_text(json.dumps(asdict(claim)), encoding="utf-8")
        try:
            yield mine
        finally:
            if mine:
                _beat(cell, 0.0)


def beat(cell: Cell) -> None:
    """Write a heartbeat to the claim, which processes on any machine can read."""
    _beat(cell, None)


def heartbeat_age(cell: Cell, claim: Claim | None) -> float | None:
    """Return the seconds since the last heartbeat of the worker that holds a cell; None if no living worker does.

    On the worker's own machine its lock decides; elsewhere, a heartbeat within the lease.
    """
    if claim is None:
        return None
    path, last = claim_path(cell), _last_beat(cell)
    if last is None:
        return None
    silence = max(0.0, time.time() - last)
    if is_locked(path):
        return silence
    elsewhere = not claim.worker.startswith(f"{machine()}:")
    return silence if elsewhere and silence < cell.config.compute.lease_seconds else None


def is_held(cell: Cell, silence: Silence) -> bool:
    """Whether a living worker holds a cell, judged by several looks: machines' clocks differ, and are set."""
    claim, last = read_claim(cell), _last_beat(cell)
    if is_locked(claim_path(cell)):
        return True
    # A released claim has the time 0.
    if claim is None or not last or claim.worker.startswith(f"{machine()}:"):
        return False
    return silence.seconds(cell.run_id, last, time.time() - last) < cell.config.compute.lease_seconds


def read_claim(cell: Cell) -> Claim | None:
    """Return the latest claim of a cell, alive or not; None if there is none, or the file cannot be used."""
    path = claim_path(cell)
    with contextlib.suppress(UnreadableError):
        claim: Claim = checked(path.name, lambda tree: Claim(**tree), read_tree(path, "JSON", json.loads))
        return claim
    return None


def evict(cell: Cell, worker: str) -> None:
    """Release the claim, the run and the stages that a worker still holds of a cell though its lease has expired."""
    claim = read_claim(cell)
    if claim is not None and claim.worker == worker:
        break_lock(claim_path(cell))
        os.utime(claim_path(cell), (0.0, 0.0))
    for directory in (cell.run, *(stage.directory for stage in cell.stages)):
        with contextlib.suppress(OSError):
            file_lease.end(directory.lease, worker)


def open_stages(cell: Cell) -> list[PlannedStage]:
    """Return the stages of a cell that are not fully trained."""
    return [stage for stage in cell.stages if not stage.directory.done]


def saved_steps(cell: Cell) -> int:
    """Return the training steps of a cell that a resumed run need not repeat."""
    saved = 0
    for stage in cell.stages:
        saved += stage.stage.steps if stage.directory.done else stage.directory.saved_step()
    return saved


def record_failure(cell: Cell, error: Exception) -> str:
    """Mark a cell failed and keep the traceback in its error.log; return the reason as one line.

    A reason that the engine has already written for this failure stays.
    """
    reason, run = reason_of(error), cell.run
    claim = read_claim(cell)
    status = run.status()
    said = status.get("state") == "failed" and claim is not None and claim.reported(status)
    if not said:
        mark_failed(cell, reason)
    append_error(cell, "".join(traceback.format_exception(error)))
    return reason


def append_error(cell: Cell, text: str) -> None:
    """Append to the error.log of a cell, if the disk has room for it."""
    with contextlib.suppress(OSError):
        cell.run.path.mkdir(parents=True, exist_ok=True)
        with (cell.run.path / "error.log").open("a", encoding="utf-8") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")


def log_tail(claim: Claim | None) -> str:
    """Return the last lines that a cell's latest worker wrote."""
    # A pipe or a device has no end.
    if claim is None or not Path(claim.log).is_file():
        return "(it has none)"
    try:
        lines = Path(claim.log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"({claim.log} cannot be read: {error.strerror})"
    return "\n".join([f"({claim.log})", *[line for line in lines if line.strip()][-TAIL_LINES:]])


def mark_failed(cell: Cell, reason: str) -> None:
    """Write that a cell failed, keeping its phase and step."""
    cell.run.report("failed", *_place(cell), reason=reason)
    if not (cell.run.path / "config.yaml").exists():
        cell.run.write_config(cell.config)


def mark_waiting(cell: Cell, reason: str) -> None:
    """Write why a cell was released, keeping its phase and step, and that it will be resumed."""
    cell.run.report("interrupted", *_place(cell), reason=reason)


def _place(cell: Cell) -> tuple[str, int, int]:
    status = cell.run.status()
    return status.get("phase") or "start", status.get("step", 0), status.get("steps", 0)


def claim_path(cell: Cell) -> Path:
    """Return the path of the file that a cell's worker keeps locked."""
    return Path(cell.config.compute.runs) / CLAIMS / cell.run_id


def _beat(cell: Cell, when: float | None) -> None:
    claim = read_claim(cell)
    if claim is not None and claim.worker == holder():
        path = claim_path(cell)
        with contextlib.suppress(OSError):
            if when is not None and path.stat().st_uid != os.geteuid():
                # Only the owner may set a time other than now: a copy is owned by this process.
                break_lock(path)
            os.utime(path, None if when is None else (when, when))


def _last_beat(cell: Cell) -> float | None:
    with contextlib.suppress(OSError):
        return claim_path(cell).stat().st_mtime
    return None


def _log() -> str:
    """Return the file that this process's output goes to."""
    with contextlib.suppress(OSError):
        path = Path(os.readlink("/proc/self/fd/1"))
        return str(path) if path.is_file() else ""
    return ""
