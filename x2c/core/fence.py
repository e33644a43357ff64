"""What keeps a process from writing when its work may have gone to another: everything asks before it is put in place.

A process that slept through its lease does not know that it did. Without a fence it would write over the files of
whoever took its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Check = Callable[[], None]
_checks: list[Check] = []
# In a forked process no thread renews leases, and it must not take in its own name what is its parent's.
os.register_at_fork(after_in_child=_checks.clear)


@contextmanager
def fenced(check: Check) -> Iterator[None]:
    """Inside the block `check` is called before a file is put in place; by raising it keeps the file out."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)


def ask() -> None:
    """Raise what a check raises, where this process has lost its work."""
    for check in _checks:
        check()
