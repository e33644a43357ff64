"""The subject of a page: the row that is checked, the classification of its volumes, and the comparable rows."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.read.classifications import Classification
from analysis.read.runs import BASELINES, Group
from analysis.tabulate.quality import Table
from analysis.tabulate.rows import Row


def chosen(table: Table, variant: str | None = None) -> Row | None:
    """The checked row: the named one, else `full`, else the last of the losses, else the last; None: none is done."""
    done = [row for row in table.rows if row.cells and row.variant not in BASELINES]
    if variant is not None:
        done = [row for row in done if row.variant == variant]
    full = [row for row in done if row.variant == "full"]
    losses = [row for row in done if row.section == "Loss"]
    return next(reversed(full or losses or done), None)


def finished_of(group: Group, found: Sequence[Classification]) -> tuple[Classification, ...]:
    """Return the finished ones at the group's scale and of its patients."""
    return tuple(c for c in found if (c.scale, c.cohort, c.state) == (group.scale, group.cohort or "", "done"))


def classification_of(group: Group, found: Sequence[Classification], row: Row | None) -> Classification | None:
    """Return the group's finished classification: that of the row's volumes, else the first of `found`."""
    variant = row.variant if row else "full"
    here = finished_of(group, found)
    return next((c for c in here if c.variant == variant), here[0] if here else None)


def unmeasured(metric: str, *rows: Row) -> str:
    """Explain why rows cannot be compared in a metric; empty if all have a cell of it. Refused cells do not count."""
    return "; ".join(
        f"refused for {row.label}: {row.refused[metric]}" if metric in row.refused else f"not measured for {row.label}"
        for row in rows
        if metric not in row.cells
    )
