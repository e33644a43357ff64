"""Callbacks of training: after every step, for a profile; after each validation, by which a search prunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Validated = Callable[[int], None]
Stepped = Callable[[], object]
_after_validation: list[Validated] = []
_after_step: list[Stepped] = []


class Pruned(Exception):
    """A search pruned this run in favour of better ones."""


@contextmanager
def on_validation(callback: Validated) -> Iterator[None]:
    """Inside the block, call `callback` with the step after each validation but the last; it may raise Pruned."""
    _after_validation.append(callback)
    try:
        yield
    finally:
        _after_validation.remove(callback)


@contextmanager
def on_step(callback: Stepped) -> Iterator[None]:
    """Inside the block, call `callback` after each optimizer step."""
    _after_step.append(callback)
    try:
        yield
    finally:
        _after_step.remove(callback)


def notify_validation(step: int) -> None:
    """Call the callbacks: metrics.jsonl has validation scores of `step`, counted over all stages."""
    for callback in _after_validation:
        callback(step)


def notify_step() -> None:
    """Call the callbacks of a step that is done."""
    for callback in _after_step:
        callback()
