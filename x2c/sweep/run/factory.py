"""The kind of a plan's sweep."""

from __future__ import annotations

from x2c.sweep.plan.cells import Plan, SearchPlan
from x2c.sweep.run.grid import Grid
from x2c.sweep.run.kinds import Kind
from x2c.sweep.run.search import Search


def kind_of(plan: Plan) -> Kind:
    """Return how the sweep of a plan is prepared, shown and concluded."""
    return Search(plan) if isinstance(plan, SearchPlan) else Grid(plan)
