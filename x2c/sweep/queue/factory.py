"""The queue of a plan, be it a grid or a search."""

from __future__ import annotations

from x2c.sweep.plan.cells import Plan
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.search import SearchQueue


def open_queue(plan: Plan, storage: str | None = None, *, create: bool = False) -> Queue:
    """The queue of a plan, be it a grid or a search."""
    kind = SearchQueue if plan.sweep.is_search else Queue
    return kind(plan, storage, create=create)
