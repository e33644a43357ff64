"""Who listens to a run while it trains: a search that gives it up early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int], None]
_listeners: list[Listener] = []


class Pruned(Exception):
    """A search gave this run up for better ones."""


@contextmanager
def listened(listener: Listener) -> Iterator[None]:
    """Inside the block `listener` is told the step after each validation before the last; it may raise Pruned."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(step: int) -> None:
    """There are validation scores of step `step`, counted over all stages, in metrics.jsonl."""
    for listener in _listeners:
        listener(step)
