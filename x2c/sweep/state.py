"""What is known of a cell: its run directory is the truth, a claim says who works on it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from x2c.core.errors import UserError
from x2c.core.files import locked
from x2c.engine.identity import PlannedStage
from x2c.sweep.plan import Cell

CellState = Literal["done", "failed", "running", "interrupted", "to do"]


@dataclass(frozen=True)
class Snapshot:
    """A cell at a moment."""

    state: CellState
    phase: str = ""
    step: int = 0
    steps: int = 0
    reason: str | None = None
    seconds_left: float | None = None
    """Of the phase."""
    seconds: float | None = None
    """Spent on it by its latest worker."""
    updated: float = 0.0
    """Unix time of the run's last word."""


@dataclass(frozen=True)
class Claim:
    """Who took a cell, and when."""

    host: str
    pid: int
    since: float


def snapshot(cell: Cell) -> Snapshot:
    """Read a cell's state."""
    claim_path = _claim_path(cell)
    # Locks first: a run that ends in between then reads as ended, not as interrupted.
    claimed_now = is_locked(claim_path)
    alive = claimed_now or is_locked(cell.run.path / ".lock")
    status = cell.run.status()
    claim = read_claim(cell)
    updated = float(status.get("updated", 0.0))
    if claim is not None and claimed_now and updated < claim.since:
        return Snapshot("running", "starting", seconds=time.time() - claim.since, updated=updated)
    if not status:
        return Snapshot("running" if alive else "to do")
    state: CellState = status["state"]
    if state == "running" and not alive:
        state = "interrupted"
    end = time.time() if state == "running" else updated
    return Snapshot(
        state,
        str(status.get("phase") or ""),
        int(status.get("step") or 0),
        int(status.get("steps") or 0),
        status.get("reason"),
        status.get("seconds_left") if state == "running" else None,
        end - claim.since if claim is not None and end > claim.since else None,
        updated,
    )


@contextmanager
def claimed(cell: Cell) -> Iterator[bool]:
    """Claim a cell for this process; yields False at once if another holds it.

    The kernel gives the claim up when the process ends, however it ends; what the file says stays.
    """
    path = _claim_path(cell)
    with locked(path, patience_seconds=0) as mine:
        if mine:
            path.write_text(json.dumps(asdict(Claim(socket.gethostname(), os.getpid(), time.time()))), encoding="utf-8")
        yield mine


def read_claim(cell: Cell) -> Claim | None:
    """The latest claim of a cell, alive or not."""
    with contextlib.suppress(OSError, ValueError):
        return Claim(**json.loads(_claim_path(cell).read_text(encoding="utf-8")))
    return None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on a file."""
    try:
        with path.open() as handle:
            # Shared, so that readers do not see one another; it is gone when the file closes.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def open_stages(cell: Cell) -> list[PlannedStage]:
    """The stages of a cell that no one has trained to the end."""
    return [stage for stage in cell.stages if not stage.directory.done]


def stages_in_work(cells: Sequence[Cell]) -> set[str]:
    """Keys of the stages that a living process trains, or will train for the cell it has claimed."""
    keys = {stage.key for cell in cells if is_locked(_claim_path(cell)) for stage in open_stages(cell)}
    every = {stage.key: stage for cell in cells for stage in cell.stages}
    return keys | {key for key, stage in every.items() if is_locked(stage.directory.path / ".lock")}


def record_failure(cell: Cell, error: Exception) -> str:
    """Mark a cell failed and keep the traceback in its error.log; returns the reason as one line.

    What the engine has already said of this failure stays.
    """
    reason = " ".join(str(error).split()) if isinstance(error, UserError) else one_line(error)
    run = cell.run
    claim = read_claim(cell)
    status = run.status()
    said = status.get("state") == "failed" and claim is not None and status.get("updated", 0.0) >= claim.since
    if not said:
        mark_failed(cell, reason)
    append_error(cell, "".join(traceback.format_exception(error)))
    return reason


def append_error(cell: Cell, text: str) -> None:
    """Add to the error.log of a cell."""
    with (cell.run.path / "error.log").open("a", encoding="utf-8") as log:
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")


def mark_failed(cell: Cell, reason: str) -> None:
    """Write that a cell failed, where it stood."""
    status: dict[str, Any] = cell.run.status()
    cell.run.report(
        "failed",
        str(status.get("phase") or "start"),
        status.get("step") or 0,
        status.get("steps") or 0,
        reason=reason,
    )
    if not (cell.run.path / "config.yaml").exists():
        cell.run.write_config(cell.config)


def one_line(error: Exception) -> str:
    """The last line of a traceback."""
    return " ".join("".join(traceback.format_exception_only(error)).split())


def _claim_path(cell: Cell) -> Path:
    return Path(cell.config.compute.runs) / ".claims" / cell.run_id
