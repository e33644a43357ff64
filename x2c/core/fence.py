"""Write fence: called before any file is put in place; raises if this process has lost its lease.

A process that was suspended past its lease does not know it. Without a fence it would overwrite its successor's
files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Check = Callable[[], None]
_checks: list[Check] = []
# A forked process has no thread that renews leases, and must not acquire its parent's lease in its own name.
os.register_at_fork(after_in_child=_checks.clear)


@contextmanager
def fenced(check: Check) -> Iterator[None]:
    """Inside the block, call `check` before each file is put in place; if it raises, the file is not replaced."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)


def check() -> None:
    """Run the checks; they raise if this process has lost its lease."""
    for each in _checks:
        each()
