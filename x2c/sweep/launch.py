"""How a worker process is started, on this machine or on another."""

from __future__ import annotations

import os
from collections.abc import Sequence

from x2c.core.script import PROJECT
from x2c.sweep.plan import Cell, Plan


def worker_arguments(plan: Plan, cells: Sequence[Cell], storage: str | None, arguments: Sequence[str]) -> list[str]:
    """The words after `python -m x2c.sweep` for a worker of these cells; `arguments` are those that make the same plan."""
    line = ["worker", *arguments]
    if storage is not None:
        line += ["--storage", storage]
    if not plan.sweep.is_search and len(cells) < len(plan.cells):
        line += ["--cells", ",".join(cell.run_id for cell in cells)]
    return line


def worker_environment() -> dict[str, str]:
    """What a worker needs to import this x2c, and to be heard at once."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
