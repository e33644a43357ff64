"""Validation callbacks, called after each validation while a run trains; a search uses them for pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int], None]
_listeners: list[Listener] = []


class Pruned(Exception):
    """A search pruned this run in favour of better ones."""


@contextmanager
def on_validation(listener: Listener) -> Iterator[None]:
    """Inside the block, call `listener` with the step after each validation but the last; it may raise Pruned."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def notify_validation(step: int) -> None:
    """Call the listeners: metrics.jsonl has validation scores of `step`, counted over all stages."""
    for listener in _listeners:
        listener(step)
