"""The rows of a table of image quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.read.runs import Run
from analysis.tabulate.measures import Cell, Value

EXPLORATORY = "exploratory"
"""Mark of a row that was not in the locked plan."""


@dataclass(frozen=True)
class Row:
    """A variant's row: its measurements, the paper's values, and the state of its runs."""

    variant: str
    section: str
    label: str
    state: str
    """`done`, `running`, `interrupted`, `failed`, `refused`, `unreadable` or `not run`."""
    detail: str
    """The state in words, with percentage or reason; for `done` the patients and seeds."""
    cells: Mapping[str, Cell]
    paper: Mapping[str, Value]
    marks: tuple[str, ...] = ()
    runs: tuple[Run, ...] = field(default=(), repr=False)
    """All runs of its recipe, whatever their state and seed."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By metric, the reason why there is no cell though it was scored."""
    seeds: frozenset[int] | None = None
    """Seeds that the table's rows share and its cells are over; None for a baseline, which has no seed."""
    patients: int = 0
    """Number of test patients of its runs; 0 without cells."""

    @property
    def finished(self) -> list[Run]:
        """Its finished runs, of every seed."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def done(self) -> list[Run]:
        """The finished runs behind its cells: those of the seeds that all rows of the table have."""
        return [run for run in self.finished if self.seeds is None or run.seed in self.seeds]
