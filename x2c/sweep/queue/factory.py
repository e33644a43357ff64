"""Opening of queues: a grid's or a search's, by the plan."""

from __future__ import annotations

from x2c.sweep.plan.cells import Plan, SearchPlan
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.search import SearchQueue


def open_queue(plan: Plan, storage: str | None = None, *, create: bool = False) -> Queue:
    """Return the queue of a plan, a grid or a search."""
    kind = SearchQueue if isinstance(plan, SearchPlan) else Queue
    return kind(plan, storage, create=create)
