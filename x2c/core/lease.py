"""A lease on the right to write somewhere; it expires when heartbeats stop.

While the process lives, a thread renews its lease well before it expires. A lease that has expired by the process's
own clock is not renewed but acquired again, which is granted to one process only: a process that was suspended and
its successor can never both write.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import ClassVar, Self

from x2c.core.clock import elapsed
from x2c.core.errors import UserError
from x2c.core.fence import fenced

BEATS_PER_LEASE = 6
MARGIN = 0.2
"""Fraction of a lease kept in reserve for clocks with a resolution of a second and for slow answers."""
ENDED = "its lease has ended"


class LeaseLost(UserError):
    """The lease expired, and another process holds it now."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.title}: {ENDED}; another {lease.kind} has it now")
        self.lease = lease


class Lease(ABC):
    """A context manager that keeps the lease alive; inside it, files are put in place only while the lease is held."""

    kind: ClassVar[str] = "process"
    """Kind of process that may hold the lease instead, for messages."""
    renewal_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """Errors of a renewal after which it is tried again."""

    def __init__(self, title: str, seconds: float, began: float | None = None) -> None:
        """`began` is the value of `elapsed` before the first heartbeat; None: there has been none."""
        self.title = title
        self._seconds = seconds
        self._until = self._end(elapsed() if began is None else began)
        self._ended_by: UserError | None = None
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._stack = ExitStack()

    @abstractmethod
    def renew(self) -> bool:
        """Send a heartbeat; return False if another process holds the lease."""

    @abstractmethod
    def reacquire(self) -> bool:
        """Acquire an expired lease again; return False if another process has, which is final."""

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
        """Raise LeaseLost if another process holds the lease. Waits while only the place that grants leases can tell.

        If that place does not answer, raises its UserError, then and in every later call.
        """
        if self._ended_by is None and elapsed() < self._until:
            return
        with self._one_at_a_time:
            began = elapsed()
            if self._ended_by is None and self._until <= began and not self._over.is_set():
                self._ended_by = self._taken_anew()
                self._until = self._end(began)
        if self._ended_by is not None:
            raise self._ended_by

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / BEATS_PER_LEASE):
            # A heartbeat that fails now may succeed next time.
            with suppress(*self.renewal_errors, UserError):
                self.check()
                self._beat()

    def _beat(self) -> None:
        with self._one_at_a_time:
            began = elapsed()
            if self._over.is_set() or self._ended_by is not None or began >= self._until:
                return
            if not self.renew():
                self._ended_by = LeaseLost(self)
            # A slow answer may have arrived after the lease expired.
            elif elapsed() - began < self._seconds * MARGIN / 2:
                self._until = self._end(began)

    def _taken_anew(self) -> UserError | None:
        try:
            return None if self.reacquire() else LeaseLost(self)
        except UserError as error:
            return error

    def _end(self, began: float) -> float:
        return began + self._seconds * (1 - MARGIN)
