"""The right to write somewhere, which ends by itself when whoever has it is no longer heard of.

While the process lives, a thread renews its lease well before it would end. A lease that has ended by the process's own
clock is not renewed: it is taken anew, which is granted to one only, so that a process that was asleep and the one that
took its place can never both write.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import ClassVar, Self

from x2c.core.clock import boottime
from x2c.core.errors import UserError
from x2c.core.fence import fenced

BEATS_PER_LEASE = 6
MARGIN = 0.2
"""Part of a lease that is not made use of: what a clock of whole seconds and a slow answer may cost."""
ENDED = "its lease has ended"


class LeaseLost(UserError):
    """This process was not heard of in time, and what it worked on is another's now."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.title}: {ENDED}; another {lease.kind} has it now")
        self.lease = lease


class Lease(ABC):
    """As a context manager it is kept, and files are put in place only while it is this process's own."""

    kind: ClassVar[str] = "process"
    """What may have it in this one's place."""
    renewal_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What a renewal may fail of and be tried again."""

    def __init__(self, title: str, seconds: float) -> None:
        self.title = title
        self._seconds = seconds
        self._until = self._end(boottime())
        self._lost = False
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._stack = ExitStack()

    @abstractmethod
    def renew(self) -> bool:
        """Let others hear of this process; False where the lease is another's."""

    @abstractmethod
    def take_anew(self) -> bool:
        """Take a lease that has ended once more; False where another was first, and that for good."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, daemon=True).start()
        self._stack.enter_context(fenced(self.check))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._stack.close()

    def check(self) -> None:
        """Raise LeaseLost where the lease is another's. Waits where only the place that grants leases can tell."""
        if not self._lost and boottime() < self._until:
            return
        with self._one_at_a_time:
            began = boottime()
            if not self._lost and self._until <= began:
                self._lost = not self.take_anew()
                self._until = self._end(began)
        if self._lost:
            raise LeaseLost(self)

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / BEATS_PER_LEASE):
            with self._one_at_a_time:
                began = boottime()
                # One that has ended is for `check`, and the thread that works, to take anew.
                if self._over.is_set() or self._lost or began >= self._until:
                    continue
                try:
                    self._lost = not self.renew()
                except self.renewal_errors:
                    continue
                # An answer that took long may have come after the end.
                if not self._lost and boottime() - began < self._seconds * MARGIN / 2:
                    self._until = self._end(began)

    def _end(self, began: float) -> float:
        return began + self._seconds * (1 - MARGIN)
