"""The two kinds of sweeps, a grid and a search, behind one protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rich.console import RenderableType

from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import Device

if TYPE_CHECKING:
    # It imports Optuna, which `plan` and `status` need not wait for.
    from x2c.sweep.queue.queue import Queue


class Shown(NamedTuple):
    """What the command `plan` shows and does."""

    workers: int | None = None
    """Number of workers for the estimate of the time; None: the machine's default."""
    cost: bool = True
    """Whether to show what is left in time, disk and energy."""
    lock: bool = False
    """Whether to preregister the cells."""
    json: bool = False


class Prepared(NamedTuple):
    """Cells that are ready to be run, and the workers for them on this machine."""

    cells: Sequence[Cell]
    workers: int
    """Number of workers to start; 0 if nothing is left to run."""
    devices: Sequence[Device]
    """The GPUs that the workers take in turn."""


class Kind(Protocol):
    """What a grid and a search do in their own ways. `chosen` are the cells that a command is about."""

    def show_plan(self, shown: Shown) -> None:
        """Print what the sweep would run, for the command `plan`. Raises UserError for an option of the other kind."""

    def with_cells(self, storage: str | None) -> Plan:
        """Return the plan with all cells that are known by now."""

    def table(self, chosen: Sequence[Cell]) -> RenderableType:
        """Return a table of what will be run."""

    def announce(self, chosen: Sequence[Cell]) -> None:
        """Print what will be run on this machine, before the queue is opened."""

    def prepare(self, queue: Queue, chosen: Sequence[Cell], workers: int | None) -> Prepared:
        """Enqueue the cells that are not done, and make once what they share.

        `workers` is the requested number of workers. Raises UserError if the machine does not suffice.
        """

    def conclude(self, queue: Queue, chosen: Sequence[Cell], reports: Path | None, began: float) -> int:
        """Print failures, results (if `reports` is a folder for them) and the sum; return the exit code.

        `began` is the command's start as Unix time in seconds.
        """
