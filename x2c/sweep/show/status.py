"""The progress of a sweep on one screen: cells, attempts, workers, throughput, time left and disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.queue.pace import pause_after
from x2c.sweep.queue.state import Snapshot
from x2c.sweep.show.tables import (
    GIB,
    MOST_ROWS,
    Shots,
    clock,
    counts,
    failure_table,
    free_bytes,
    progress_table,
    seconds_left,
    snapshots,
    steps_to_go,
    wide_console,
)

REFRESH_SECONDS = 2.0
DISK_SECONDS = 60.0
"""Seconds between two walks through all files of the runs."""
HOUR = 3600.0
AROUND = 12
"""Lines of the screen besides the table of cells, without workers."""


@dataclass(frozen=True)
class Status:
    """The progress of a sweep at one moment."""

    shots: Shots
    workers: tuple[tuple[Cell, Snapshot], ...]
    """The living workers, by the cell that each holds."""
    steps_per_second: float
    """Training steps per second of all workers together."""
    cells_per_hour: float | None
    """Cells that ended within the last hour, or since the first of them began; None if none did."""
    seconds_left: float | None
    disk_used: int
    """Bytes in the folder of the runs."""
    disk_looked: float
    """Time of that count, by the monotonic clock."""
    disk_free: int


def gather(plan: Plan, before: Status | None = None) -> Status:
    """Read the run directories that were not done `before`, and the disk once a minute."""
    shots = snapshots(plan.cells, before=before.shots if before else None)
    found = [(cell, shots[cell.run_id]) for cell in plan.cells]
    workers = tuple((cell, shot) for cell, shot in found if shot.claim is not None and shot.silence is not None)
    used, looked = (before.disk_used, before.disk_looked) if before else (0, -math.inf)
    if time.monotonic() - looked >= DISK_SECONDS:
        used, looked = used_bytes(plan.runs), time.monotonic()
    return Status(
        shots,
        workers,
        sum(_speed(shot) for shot in shots.values()),
        _cells_per_hour(shots.values()),
        seconds_left(shots, len(workers), 0.0) if workers else None,
        used,
        looked,
        free_bytes(plan.runs),
    )


def show(plan: Plan, *, once: bool) -> None:
    """Print the status; on a terminal, unless `once`, repeat while anything runs."""
    console, began = wide_console(), time.monotonic()
    status = gather(plan)
    if once or not console.is_terminal or not status.workers:
        console.print(screen(plan, status))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while status.workers:
            room = console.height - AROUND - len(status.workers)
            live.update(screen(plan, status, room), refresh=True)
            time.sleep(pause_after(began, REFRESH_SECONDS))
            began = time.monotonic()
            status = gather(plan, status)
    console.print(screen(plan, status))


def screen(plan: Plan, status: Status, room: int = MOST_ROWS) -> RenderableType:
    """Return tables of cells, workers and failures, and the totals."""
    parts: list[RenderableType] = [progress_table(plan, plan.cells, status.shots, room)]
    if status.workers:
        parts.append(worker_table(status))
    if any(shot.state == "failed" for shot in status.shots.values()):
        parts.append(failure_table(plan.cells, status.shots))
    words = [counts(status.shots)]
    if status.steps_per_second:
        words.append(f"{status.steps_per_second:.3g} steps/s")
    if status.cells_per_hour is not None:
        words.append(f"{status.cells_per_hour:.3g} cells/h")
    if status.seconds_left is not None:
        words.append(f"about {clock(status.seconds_left)} left")
    words.append(f"{plan.runs}/ {status.disk_used / GIB:.2f} GiB, {status.disk_free / GIB:.0f} GiB free")
    return Group(*parts, Text(" · ".join(words)))


def worker_table(status: Status) -> Table:
    """Return a table of the living workers: machine, cell, and last heartbeat."""
    table = Table(title="workers", title_justify="left")
    for heading in ("worker", "cell", "heartbeat", "at it for", "log"):
        table.add_column(heading, overflow="fold")
    for cell, shot in status.workers:
        assert shot.claim is not None and shot.silence is not None
        late = shot.silence > cell.config.compute.lease_seconds / 2
        heartbeat = Text(f"{shot.silence:.0f} s ago", style="bold red" if late else "")
        since = clock(time.time() - shot.claim.since)
        log = os.path.relpath(shot.claim.log) if shot.claim.log else ""
        table.add_row(f"{shot.claim.host}:{shot.claim.pid}", cell.title, heartbeat, since, log)
    return table


def as_json(plan: Plan, status: Status) -> dict[str, Any]:
    """Return the same content for scripts."""
    return {
        "sweep": plan.sweep.name,
        "scale": plan.scale,
        "data": plan.data,
        "runs": str(plan.runs),
        "steps_to_go": steps_to_go(plan.cells),
        "steps_per_second": status.steps_per_second,
        "cells_per_hour": status.cells_per_hour,
        "seconds_left": status.seconds_left,
        "disk_used_bytes": status.disk_used,
        "disk_free_bytes": status.disk_free,
        "workers": [
            {"host": shot.claim.host, "pid": shot.claim.pid, "run": cell.run_id, "heartbeat_age_seconds": shot.silence}
            for cell, shot in status.workers
            if shot.claim is not None
        ],
        "cells": [_cell(plan, cell, status.shots[cell.run_id]) for cell in plan.cells],
    }


def _cell(plan: Plan, cell: Cell, shot: Snapshot) -> dict[str, Any]:
    stages = [
        {
            "name": stage.name,
            "key": stage.key,
            "steps": stage.stage.steps,
            "trained_by": plan.trainer_of[stage.key].run_id,
        }
        for stage in cell.stages
    ]
    attempts = shot.claim.attempts if shot.claim else 0
    return {"cell": cell.title, "run": cell.run_id, "attempts": attempts, **asdict(shot), "stages": stages}


def _speed(shot: Snapshot) -> float:
    """Return the steps per second of a cell that is being trained."""
    return (shot.steps - shot.step) / shot.seconds_left if shot.seconds_left and shot.phase.startswith("train") else 0.0


def _cells_per_hour(shots: Sequence[Snapshot] | Any) -> float | None:
    now = time.time()
    ended = [shot for shot in shots if shot.state == "done" and shot.claim and now - shot.updated < HOUR]
    if not ended:
        return None
    since = max(now - HOUR, min(shot.claim.since for shot in ended if shot.claim))
    return len(ended) / max(now - since, 1.0) * HOUR


def used_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; a file with several names counts once."""
    return sum({(status.st_dev, status.st_ino): status.st_size for status in _files(folder)}.values())


def _files(folder: Path) -> Iterator[os.stat_result]:
    """Yield every file below a folder, as many as exist at the moment."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            try:
                yield entry.stat(follow_symlinks=False)
            except OSError:
                continue
